"""Where should a light CNNH have its channels? Compares allocations at equal minutes.

    python -m benchmarks.studies.allocation --data=data/lfw --pairs=pairs.txt \\
        --judge=judge.onnx --minutes=3

`--data` has shards whose split `test` has exactly the people of folds 7 and 8 of the
pairs. The command times a step of each allocation (so nothing else should run; with
`--time`, it stops here), and trains each by L_SR for the steps that take `--minutes` at
that rate. Compilation does not count. Trained networks are kept below `--runs`, and the
same command continues after an interruption; `--seeds=1 '--only=A;B'` adds runs to the
record. Choose by fold 7; fold 8 is for the report.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks.measuring import earlier_record, markdown, write_record
from benchmarks.studies import light
from benchmarks.studies.light import Folds, super_resolve, time_steps
from configs import real
from sicnn_jax import models, parallel, train
from sicnn_jax.models.layers import Conv

_RECORD = 'allocation'
_TAPERED = {
    'width': (64, 64, 32, 16),
    'growth': (32, 32, 16, 16),
    'depth': (6, 4, 3),
    'deconv_width': (128, 64, 32),
    'deconv_kernels': (3, 5, 5),
    'final_depth': 1,
    'reconstruction_gain': 0.1,
    'bicubic_skip': False,
}
_SHALLOW = {
    'growth': (32, 32, 16, 8),
    'depth': (6, 4, 1),
    'deconv_width': (128, 64, 16),
}
# The best of the first allocations, with everything that helped any of them.
_ALL = _SHALLOW | {'deconv_kernels': (4, 4, 4), 'bicubic_skip': True}


@dataclasses.dataclass(frozen=True)
class Allocation:
    """A light CNNH and its training settings.

    Attributes:
      sizes: fields of `config.cnnh` that differ from those of the tapered network.
      batch_size: faces per step.
      learning_rate: at the first step.
    """

    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int = 16
    learning_rate: float = 1e-3


class ResizedCNNH(models.CNNH):
    """CNNH that doubles the size by nearest neighbours and a 3×3 convolution."""

    def upscaling(self, features: int, stage: int) -> nn.Module:
        return _ResizeConv(features, self.init_std, self.dtype, name=f'deconv{stage}')


class _ResizeConv(nn.Module):
    features: int
    init_std: float | None
    dtype: Any

    @nn.compact
    def __call__(self, x):
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        return Conv(self.features, self.init_std, dtype=self.dtype, name='conv')(x)


KINDS = {'resized_cnnh': ResizedCNNH}

ALLOCATIONS = {
    'the demo of 60a0519': Allocation(
        {
            'width': 16,
            'growth': 8,
            'depth': 3,
            'deconv_width': 32,
            'reconstruction_gain': 1.0,
        }
    ),
    'tapered': Allocation(),
    'kernels 4×4': Allocation({'deconv_kernels': (4, 4, 4)}),
    'shallower ends': Allocation(_SHALLOW),
    'shallower ends + kernels 4×4': Allocation(
        _SHALLOW | {'deconv_kernels': (4, 4, 4)}
    ),
    'resize-convolution': Allocation({'kind': 'resized_cnnh'}),
    'bicubic skip': Allocation({'bicubic_skip': True}),
    'all three': Allocation(_ALL),
    'all three, wider at 14×12': Allocation(
        _ALL
        | {
            'width': (128, 64, 32, 16),
            'growth': (64, 32, 16, 8),
            'deconv_width': (256, 64, 16),
        }
    ),
    'all three, deeper at 14×12': Allocation(_ALL | {'depth': (12, 4, 1)}),
    'all three, batch of 8': Allocation(_ALL, batch_size=8),
    'all three, batch of 32': Allocation(_ALL, batch_size=32),
    'all three, learning rate 2e-3': Allocation(_ALL, learning_rate=2e-3),
    'all three, learning rate 5e-4': Allocation(_ALL, learning_rate=5e-4),
}


def configure(allocation: Allocation, data: Path, seed: int) -> ConfigDict:
    """The config that trains an allocation."""
    config = light.configure(data)
    config.seed = seed
    with config.cnnh.ignore_type():
        config.cnnh.update(_TAPERED)
        config.cnnh.update(dict(allocation.sizes))
    stage = config.hallucination
    stage.batch_size = allocation.batch_size
    stage.optimizer.cnnh.learning_rate = allocation.learning_rate
    return config


def train_one(
    allocation: Allocation, data: Path, seed: int, steps: int, workdir: Path
) -> float:
    """Trains an allocation unless it is trained; returns the minutes that this took."""
    config = configure(allocation, data, seed)
    config.hallucination.steps = steps
    config.hallucination.checkpoint_every = 1_000
    start = time.monotonic()
    train.run(config, workdir)
    return (time.monotonic() - start) / 60


def table(record: Mapping[str, Any]) -> str:
    """The results of each allocation on the fold for choosing and on the other."""
    rows, bicubic = [], record['bicubic']
    for name, one in record['allocations'].items():
        for seed, run in sorted(one.get('runs', {}).items()):
            cells = [
                f'{one["multiply_adds"] / 1e9:.2f}',
                f'{one["parameters"] / 1e6:.2f}',
                f'{one["step_seconds"]:.3f}',
                seed,
                str(run['steps']),
            ]
            rows.append((name, cells + light.both_folds(run['folds'])))
    rows.append(('bicubic', [''] * 5 + light.both_folds(bicubic)))
    sizes = ('G mult-adds', 'M parameters', 's per step', 'seed', 'steps')
    columns = (*sizes, *light.FOLD_COLUMNS)
    return markdown(columns, rows, first='allocation')


def main():
    parser = light.parser(__doc__)
    add = parser.add_argument
    add('--judge', default='dlib', help='as for sicnn_jax.evaluate')
    add('--minutes', type=float, default=3.0)
    add('--seeds', default='0')
    add('--only', default='', help="allocations, separated by ';'; default: all")
    add('--runs', type=Path, default=Path('runs/allocation'))
    add('--time', action='store_true', help='only time the steps')
    options = parser.parse_args()
    models.KINDS.update(KINDS)
    parallel.divide_cpu(real.get_config().cpu_devices)
    names = options.only.split(';') if options.only else list(ALLOCATIONS)
    record = earlier_record(_RECORD) or {'allocations': {}}
    record |= {'minutes': options.minutes, 'judge': Path(options.judge).name}
    for name in names:
        if name not in record['allocations']:
            record['allocations'][name] = time_steps(
                configure(ALLOCATIONS[name], options.data, seed=0)
            )
            print(name, record['allocations'][name], flush=True)
            write_record(_RECORD, record)
    if options.time:
        return
    folds = Folds(options.data, options.pairs, options.judge)
    about = {'originals': folds.originals, 'bicubic': folds.bicubic}
    for seed in options.seeds.split(','):
        for name in names:
            one = record['allocations'][name]
            steps = light.steps_in(options.minutes, one['step_seconds'])
            workdir = options.runs / f'{name}-{seed}'.replace(' ', '_')
            minutes = train_one(
                ALLOCATIONS[name], options.data, int(seed), steps, workdir
            )
            found = folds.measure(super_resolve(workdir / 'hallucination', folds.lr))
            print(name, seed, f'{minutes:.1f} minutes', found, flush=True)
            # Another process may have added to the record meanwhile.
            record = earlier_record(_RECORD) | about
            runs = record['allocations'][name].setdefault('runs', {})
            runs[seed] = {'steps': steps, 'folds': found}
            write_record(_RECORD, record)
    print(table(earlier_record(_RECORD)))


if __name__ == '__main__':
    main()
