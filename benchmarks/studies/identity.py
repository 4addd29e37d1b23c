"""What L_SI adds that a judge sees, by the network in it and by α.

    python -m benchmarks.studies.identity --data=data/lfw --pairs=pairs.txt \\
        --judge=judge.onnx --base=runs/learning_curve/8x-60/hallucination \\
        --taught=runs/real-distilled/recognition

`--data` as of `benchmarks.studies.allocation`; `--base` is a finished CNNH by L_SR,
from which each row goes on for as many steps on the same batches, and `--taught` a CNNR
that dlib taught (configs/real.py:distilled). Choose by fold 7; fold 8 is for the
report. What is trained is kept below `--runs`, and the command goes on where it was
interrupted.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.measuring import earlier_record, markdown, write_record
from benchmarks.studies.light import CHOICE, REPORT, Folds, super_resolve
from configs import real
from sicnn_jax import metrics, parallel, train

_RECORD = 'identity'
# From this share of the Nyquist frequency on, along either axis, there is little in a
# photograph of this size: a grid shows here.
_FINE = 0.9


@dataclasses.dataclass(frozen=True)
class Row:
    """How a last stage is trained.

    Attributes:
      variant: of configs/real.py, which says what recognises.
      stage: of that config.
      alpha: weight of L_SI.
    """

    variant: str
    stage: str
    alpha: float


ROWS = {
    'L_SR only': Row('dlib', 'sr_only', 0.0),
    **{
        f"dlib's network, α = {alpha:,}": Row('dlib', 'approach_ii', alpha)
        for alpha in (300, 1_000, 3_000)
    },
    **{
        f'taught CNNR, α = {alpha:,}': Row('distilled', 'approach_ii', alpha)
        for alpha in (300, 1_000, 3_000)
    },
    'taught CNNR, taught on SR ∪ HR, α = 1,000': Row(
        'distilled', 'taught_integrated', 1_000
    ),
    'taught CNNR, Algorithm 1, α = 1,000': Row('distilled', 'domain_integrated', 1_000),
}


def configure(row: Row, options: argparse.Namespace, seed: int) -> ConfigDict:
    """The config of a row: the network that recognises, and the last stage."""
    config = real.get_config(row.variant)
    config.seed = seed
    config.data.dir = str(options.data)
    config.data.targets = str(options.targets) if row.variant == 'distilled' else ''
    if row.variant == 'distilled':
        config.recognition.checkpoint = str(options.taught)
    stage = config[row.stage]
    stage.init.cnnh = str(options.base)
    stage.alpha = float(row.alpha)
    stage.steps = options.steps
    config.stages = ('recognition', row.stage) if row.alpha else (row.stage,)
    return config


def fine_energy(faces: np.ndarray) -> float:
    """Mean power of luminance near the Nyquist frequency, of either axis.

    Args:
      faces: uint8 [n, h, w, 3].
    """
    y = metrics.luminance(faces)
    height, width = y.shape[1:3]
    y = y.reshape(-1, height, width)
    # Else the step from one edge to the other is all that there is to see.
    window = np.outer(np.hanning(height), np.hanning(width))
    y = (y - y.mean((1, 2), keepdims=True)) * window
    power = np.abs(np.fft.fft2(y, norm='ortho')) ** 2
    rows, columns = (np.abs(np.fft.fftfreq(n)) * 2 for n in (height, width))
    fine = np.maximum(rows[:, None], columns) >= _FINE
    return float(power[:, fine].mean())


def table(record: dict[str, Any]) -> str:
    """What each row came to on the fold of the choice and on that of the report."""
    rows = [('bicubic', _cells(record['bicubic']))]
    for name in ROWS:
        for seed, run in sorted(record['rows'].get(name, {}).items()):
            rows.append((f'{name} (seed {seed})', _cells(run)))
    columns = ['energy near Nyquist']
    for fold in (CHOICE, REPORT):
        columns += [
            f'{column}, fold {fold}'
            for column in ('PSNR', 'similarity', 'verification')
        ]
    return markdown(tuple(columns), rows, first='trained on by')


def _cells(run):
    cells = [f'{run["energy"]:.3f}']
    for fold in (CHOICE, REPORT):
        found = run['folds'][str(fold)]
        cells += [
            f'{found["psnr"]:.2f}',
            f'{found["similarity"]:.4f}',
            f'{found["verification"]:.1%}',
        ]
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--data', type=Path, required=True, help='shards, test: people of folds 7, 8')
    add('--pairs', required=True, help="LFW's pairs.txt")
    add('--judge', required=True, help='as of sicnn_jax.evaluate; no teacher of these')
    add('--base', type=Path, required=True, help='a finished CNNH by L_SR')
    add('--taught', type=Path, help='a finished CNNR that dlib taught')
    add('--targets', type=Path, help="the teacher's features of the shards")
    add('--steps', type=int, default=1_200)
    add('--seeds', default='0')
    add('--only', default='', help="rows, with ';'; default: all")
    add('--runs', type=Path, default=Path('runs/identity'))
    options = parser.parse_args()
    parallel.divide_cpu(real.get_config().cpu_devices)
    folds = Folds(options.data, options.pairs, options.judge)
    original = fine_energy(folds.hr)

    def measure(sr):
        return {'energy': fine_energy(sr) / original, 'folds': folds.measure(sr)}

    about = {'steps': options.steps, 'judge': Path(options.judge).name}
    about |= {'originals': folds.originals}
    about['bicubic'] = measure(folds.enlarged)
    for seed in map(int, options.seeds.split(',')):
        for name in options.only.split(';') if options.only else ROWS:
            record = (earlier_record(_RECORD) or {'rows': {}}) | about
            if str(seed) in record['rows'].get(name, {}):
                continue
            row = ROWS[name]
            workdir = options.runs / f'{name}-{seed}'.replace(' ', '_')
            train.run(configure(row, options, seed), workdir)
            run = measure(super_resolve(workdir / row.stage, folds.lr))
            print(name, seed, run, flush=True)
            record['rows'].setdefault(name, {})[str(seed)] = run
            write_record(_RECORD, record)
    print(table(earlier_record(_RECORD)))


if __name__ == '__main__':
    main()
