"""How good each method's faces are after a number of minutes of training.

    python -m benchmarks.speed.time_to_quality --data=data/lfw --pairs=pairs.txt \\
        --judge=judge.onnx

`--data` is as in `benchmarks.studies.allocation`. The methods are the light CNNH of
configs/real.py, CNNH at the paper's widths with the same optimiser, LapSRN and UR-DGN
at the sizes of their configs' variant `real`, and the light CNNH in PyTorch, as it is
and compiled. All see the same augmented batches of 16 faces, on the same cores. Fold 8
is reported.

Each point trains from scratch, with a learning rate that falls to zero at its end, so
it shows what that many minutes can give. If it continued from the previous point, every
method would pay for a restart, and UR-DGN would lose its discriminator.

Minutes count only steps. The command first times a step of each method, while nothing
else should run, and a point takes as many steps as fit. So training itself may be
interrupted, or run next to other programs. No method's minutes include making batches;
compilation and evaluation are reported separately.

Trained networks are kept below `--runs`. Points in the record are not measured again,
so several commands can share the `--methods` and `--minutes`; to start over, move the
runs and the record away. An interrupted point of PyTorch starts over.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.measuring import (
    earlier_record,
    markdown,
    results_directory,
    time_calls,
    write_record,
)
from benchmarks.studies import light
from benchmarks.studies.light import REPORT, Folds, super_resolve
from configs import lapsrn, ur_dgn
from sicnn_jax import images, parallel, train
from sicnn_jax.batches import in_batches
from sicnn_jax.config import schema
from sicnn_jax.data.dataset import open_faces
from sicnn_jax.optimizers import learning_rate_schedule

NAME = 'time_to_quality'
STAGE = 'hallucination'
MEASURES = {'psnr': 'PSNR, dB', 'similarity': 'similarity', 'verification': 'verified'}
_TIMED = 12


def _paper(data):
    config = light.configure(data)
    config.winograd = True
    config.cnnh = schema.base().cnnh
    config.cnnh.dtype = 'float32'
    return config


def _compared(get_config, data):
    config = light.second_stage_alone(get_config('real'), data)
    config[STAGE].checkpoint_every = 100
    return config


@dataclasses.dataclass(frozen=True)
class Method:
    """A method to train.

    Attributes:
      title: the title of its rows.
      configure: shards → config with the stage `STAGE`.
      twin: how PyTorch trains it, 'as it is' or 'compiled'; '' if JAX does.
    """

    title: str
    configure: Callable[[Path], ConfigDict]
    twin: str = ''


METHODS = {
    'light': Method('CNNH, light', light.configure),
    'paper': Method("CNNH, the paper's widths", _paper),
    'lapsrn': Method('LapSRN', lambda data: _compared(lapsrn.get_config, data)),
    'ur_dgn': Method('UR-DGN', lambda data: _compared(ur_dgn.get_config, data)),
    'pytorch': Method('CNNH, light, in PyTorch', light.configure, 'as it is'),
    'pytorch_compiled': Method('the same compiled', light.configure, 'compiled'),
}


class Twin:
    """The stage of a config in PyTorch: our first weights, batches and schedule."""

    def __init__(self, config: ConfigDict, *, compiled: bool):
        # Imported here, because the other methods do without PyTorch.
        import torch

        from benchmarks import pytorch_twin

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._stage = train.build_stage(config, STAGE, Path('unused'))
        self._faces = open_faces(config.data, Path('unused'))
        self._to_twin = pytorch_twin.to_twin
        params = {'cnnh': train.initialise(config, self._stage, 'cnnh', self._faces)}
        self._updates = pytorch_twin.Updates(
            params,
            {'cnnh': pytorch_twin.load('cnnh', params['cnnh'], config.cnnh)},
            self._stage.config.optimizer,
            compiled=compiled,
        )
        self._pairs = jax.jit(self._make_pairs)

    def train(self, steps: int) -> np.ndarray:
        """Takes steps; returns the loss of each."""
        optimizer = self._stage.config.optimizer.cnnh
        schedule = learning_rate_schedule(optimizer, steps)
        losses = []
        for step, pair in zip(range(steps), self._batches(), strict=False):
            self._updates.set_learning_rate('cnnh', float(schedule(step)))
            losses.append(self._updates.hallucination(*pair))
        return np.array(losses)

    def time(self) -> dict[str, float]:
        """Like `light.time_steps`; afterwards, the network has changed."""
        lr, hr = next(self._batches())
        first, *seconds = time_calls(
            lambda: self._updates.hallucination(lr, hr), _TIMED + 1
        )
        return {'step_seconds': float(np.median(seconds)), 'compile_seconds': first}

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        """Super-resolved faces: uint8 [n, h, w, 3] → uint8 [n, 112, 96, 3]."""
        return in_batches(self._enlarge, lr)

    def _enlarge(self, lr):
        sr = self._updates.infer(self._to_twin(images.to_float(lr)))
        return np.asarray(images.to_levels(sr.permute(0, 2, 3, 1).cpu().numpy()))

    def _batches(self):
        """Pairs of tensors, the same as in training with the config's seed of 0."""
        config = self._stage.config
        resident = jax.device_put(self._faces.resident)
        for batch in self._faces.train_batches(
            batch_size=config.batch_size, seed=config.data_seed
        ):
            yield tuple(map(self._to_twin, self._pairs({**batch, **resident})))

    def _make_pairs(self, batch):
        hr = self._faces.to_hr(batch)['hr']
        recipe = self._stage.recipe
        lr = images.degrade(hr, scale=recipe.scale, kind=recipe.degradation)
        return images.to_float(lr), images.to_float(hr)


def steps_in(minutes: float, step_seconds: float) -> int:
    """The number of steps that take some minutes, at least one."""
    return max(1, round(60 * minutes / step_seconds))


def time_method(method: Method, config: ConfigDict) -> dict[str, float]:
    """Seconds of a step, and of the first one."""
    if method.twin:
        return Twin(config, compiled=method.twin == 'compiled').time()
    return light.time_steps(config)


def train_method(
    method: Method, config: ConfigDict, steps: int, workdir: Path
) -> Callable[[np.ndarray], np.ndarray]:
    """Trains for some steps; returns the function that then enlarges faces."""
    config[STAGE].steps = steps
    if method.twin:
        twin = Twin(config, compiled=method.twin == 'compiled')
        twin.train(steps)
        return twin
    train.run(config, workdir)
    return lambda lr: super_resolve(workdir / STAGE, lr)


def measure(
    enlarge: Callable[[np.ndarray], np.ndarray], folds: Folds
) -> dict[str, float]:
    """Results on fold 8, and the seconds to enlarge its faces, once compiled."""
    sr = enlarge(folds.lr)
    start = time.perf_counter()
    enlarge(folds.lr)
    seconds = time.perf_counter() - start
    return folds.measure(sr)[str(REPORT)] | {'evaluation_seconds': seconds}


def table(record: Mapping[str, Any]) -> str:
    """A row for each method and point."""
    rows = [('bicubic', ['', '', *light.cells(record['bicubic']), '', ''])]
    for name, found in _by_method(record):
        for minutes, point in found.items():
            timed = record['timed'][name]
            cells = [minutes, f'{point["steps"]:,}', *light.cells(point)]
            cells += [f'{timed["compile_seconds"]:.0f} s']
            cells += [f'{point["evaluation_seconds"]:.1f} s']
            rows.append((METHODS[name].title, cells))
    columns = ('minutes', 'steps', *MEASURES.values(), 'compilation', 'evaluation')
    return markdown(columns, rows)


def _by_method(record):
    """Points in the order of the methods and of the minutes."""
    for name in METHODS:
        points = record['points'].get(name, {})
        if points:
            yield name, {key: points[key] for key in sorted(points, key=float)}


def plot(record: Mapping[str, Any], path: Path) -> None:
    """Draws PSNR and similarity by minutes, a line for each method, as a PNG."""
    # Imported here, because it is in the extra `bench` and no test draws.
    import matplotlib.pyplot as plt

    shown = ('psnr', 'similarity')
    figure, axes = plt.subplots(1, len(shown), figsize=(11, 4), layout='constrained')
    for axis, measure in zip(axes, shown, strict=True):
        for name, points in _by_method(record):
            minutes = [float(key) for key in points]
            values = [point[measure] for point in points.values()]
            axis.plot(minutes, values, marker='o', label=METHODS[name].title)
        axis.axhline(record['bicubic'][measure], color='0.6', label='bicubic')
        axis.set(xscale='log', xlabel='minutes', ylabel=MEASURES[measure])
    axes[0].legend(fontsize='small')
    figure.savefig(path)


def begin(record: dict[str, Any] | None, judge: str, cores: int) -> dict[str, Any]:
    """The record to continue, or a new one.

    Raises:
      ValueError: the record has another judge or number of cores.
    """
    about = {'judge': Path(judge).name, 'training_cores': cores}
    if record is None:
        return about | {'timed': {}, 'points': {}}
    for field, value in about.items():
        if record[field] != value:
            raise ValueError(
                f'{NAME}.json has {field} {record[field]!r}, but now it is {value!r}: '
                'move that record away, or use the same again.'
            )
    return record


def run(
    record: dict[str, Any], folds: Folds, options: argparse.Namespace, cores: int
) -> None:
    """Times each method, trains its points and writes the record after each."""
    record['bicubic'] = folds.bicubic[str(REPORT)]
    chosen = {name: METHODS[name] for name in options.methods.split(',')}
    # Before any training, while the machine is idle.
    for name, method in chosen.items():
        if name not in record['timed']:
            config = _on_cores(method.configure(options.data), cores)
            record['timed'][name] = time_method(method, config)
            print(method.title, record['timed'][name], flush=True)
            write_record(NAME, record)
    for minutes in map(float, options.minutes.split(',')):
        for name, method in chosen.items():
            points = record['points'].setdefault(name, {})
            if f'{minutes:g}' in points:
                continue
            steps = steps_in(minutes, record['timed'][name]['step_seconds'])
            config = _on_cores(method.configure(options.data), cores)
            workdir = options.runs / f'{name}-{minutes:g}'
            enlarge = train_method(method, config, steps, workdir)
            points[f'{minutes:g}'] = {'steps': steps} | measure(enlarge, folds)
            write_record(NAME, record)


def _on_cores(config, cores):
    """The config with a device for each core, if there are several."""
    config.cpu_devices = cores if cores > 1 else 0
    return config


def main():
    parser = light.parser(__doc__)
    add = parser.add_argument
    add('--judge', default='dlib', help='as for sicnn_jax.evaluate')
    add('--methods', default=','.join(METHODS), help='default: all')
    add('--minutes', default='1,2,5,10,20')
    add('--cores', default='', help='cores to use, such as 0,1; default: all')
    add('--runs', type=Path, default=Path('runs') / NAME)
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, set(map(int, options.cores.split(','))))
    cores = len(os.sched_getaffinity(0))
    parallel.divide_cpu(cores if cores > 1 else 0)
    record = begin(earlier_record(NAME), options.judge, cores)
    run(record, Folds(options.data, options.pairs, options.judge), options, cores)
    print(table(record))
    plot(record, results_directory() / f'{NAME}.png')


if __name__ == '__main__':
    main()
