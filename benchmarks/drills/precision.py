"""Trains in bfloat16 and in float32 from the same start: how far do they diverge?

    python -m benchmarks.drills.precision --steps=200

The drill trains the three stages of the paper at the sizes of configs/di.py:demo on the
same batches, once with both networks in float32 and once in bfloat16 (parameters,
losses and optimisers are always float32). It compares the mean of each loss over the
second half of a stage, and the evaluation at the end. It exits with 1 if the relative
difference of a loss exceeds --tolerance, or if PSNR differs by more than 0.1 dB or a
similarity by more than 0.02.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.measuring import markdown, write_record
from sicnn_jax.reports.curves import read_metrics
from tests import tiny_training

_TYPES = ('float32', 'bfloat16')
_LOSSES = ('recognition_loss', 'super_resolution_loss', 'super_identity_loss')
# The largest differences allowed in the evaluation at the end, in its units.
_MEASURED = {'psnr': 0.1, 'identity_similarity': 0.02, 'judge_similarity': 0.02}


def train(workdir: Path, dtype: str, steps: int) -> dict[str, float]:
    """Trains all stages; returns mean losses by stage and name, and SICNN's results."""
    fields = {'cnnr.dtype': dtype, 'cnnh.dtype': dtype, 'stages': tiny_training.STAGES}
    fields |= {f'{stage}.steps': steps for stage in tiny_training.STAGES}
    fields['data.dir'] = workdir.parent / 'data'
    command = tiny_training.command(workdir, fields)
    subprocess.run(command, cwd=tiny_training.ROOT, check=True)
    found = {}
    for stage in tiny_training.STAGES:
        lines = read_metrics(workdir / stage)
        late = [line for line in lines if line['step'] > steps / 2]
        for loss in _LOSSES:
            if loss in late[0]:
                found[f'{stage}: {loss}'] = float(
                    np.mean([line[loss] for line in late])
                )
    rows = json.loads((workdir / 'results.json').read_text())['rows']
    (sicnn,) = (row for row in rows if row['method'] == 'sicnn')
    return found | {name: sicnn[name] for name in _MEASURED}


def compare(
    exact: Mapping[str, float], rounded: Mapping[str, float], tolerance: float
) -> dict[str, dict[str, float]]:
    """By name: both values, their difference (relative for a loss) and its limit."""
    return {
        name: {
            'float32': value,
            'bfloat16': rounded[name],
            'difference': (rounded[name] - value)
            / (1.0 if name in _MEASURED else value),
            'limit': _MEASURED.get(name, tolerance),
        }
        for name, value in exact.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=200, help='a multiple of 40')
    parser.add_argument('--tolerance', type=float, default=0.02)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        exact, rounded = (
            train(Path(directory) / dtype, dtype, options.steps) for dtype in _TYPES
        )
    compared = compare(exact, rounded, options.tolerance)
    rows = [
        (name, [f'{one[key]:.4f}' for key in (*_TYPES, 'difference', 'limit')])
        for name, one in compared.items()
    ]
    print(markdown((*_TYPES, 'difference', 'limit'), rows))
    write_record('precision', {'steps': options.steps, 'compared': compared})
    return int(any(abs(one['difference']) > one['limit'] for one in compared.values()))


if __name__ == '__main__':
    sys.exit(main())
