"""Draws pairs of faces, L_SR only and SICNN in random order: which is which?

    python -m benchmarks.studies.which_is_sicnn --workdir=runs/di-demo --out=pairs.png

Each row has two pairs at threefold size, each with its original on the right. Write
down the side of SICNN's face, row by row, and give that as `--guess=LRRLLRLRRL`: the
command says how many are right.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from sicnn_jax.evaluation import held_out
from sicnn_jax.evaluation.methods import load_methods
from sicnn_jax.workdir import read_config

_PAIRS, _COLUMNS, _ENLARGED = 10, 2, 3


def draw(workdir: Path, seed: int) -> tuple[Image.Image, str]:
    """The picture, and the side of SICNN's face in each pair, 'L' or 'R'."""
    config = read_config(workdir)
    hr, _, _ = held_out.load_test_faces(config, workdir)
    rng = np.random.default_rng(seed)
    faces = load_methods(config, workdir)(hr[rng.choice(len(hr), _PAIRS, False)])
    sides = ''.join(rng.choice(['L', 'R'], _PAIRS))
    groups = []
    for index, side in enumerate(sides):
        order = ('sicnn', 'sr_only') if side == 'L' else ('sr_only', 'sicnn')
        row = [faces[method][index] for method in (*order, 'hr')]
        groups.append(np.concatenate(row, axis=1))
    rows = [
        np.concatenate(groups[start : start + _COLUMNS], axis=1)
        for start in range(0, _PAIRS, _COLUMNS)
    ]
    sheet = Image.fromarray(np.concatenate(rows))
    size = (sheet.width * _ENLARGED, sheet.height * _ENLARGED)
    return sheet.resize(size, Image.Resampling.NEAREST), sides


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--workdir', type=Path, required=True, help='of a finished run')
    parser.add_argument('--out', type=Path, default=Path('pairs.png'))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--guess', default='', help='such as LRRLLRLRRL')
    options = parser.parse_args()
    sheet, sides = draw(options.workdir, options.seed)
    if options.guess:
        right = sum(a == b for a, b in zip(options.guess, sides, strict=True))
        print(f'{right} of {_PAIRS} are right.')
        return
    sheet.save(options.out)
    print(f'Written: {options.out}')


if __name__ == '__main__':
    main()
