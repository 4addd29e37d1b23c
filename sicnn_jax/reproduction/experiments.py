"""Runs that share what they have in common, in a cache keyed by their configs.

A run is a config, the fields that are changed in it, and stages that other runs give.
The name of its directory has a hash of all that, so that whoever asks for the same run
finds it, whether it is finished, interrupted or not begun. Each run is a process of its
own, `python -m sicnn_jax.main`, which continues an interrupted run.
"""

import dataclasses
import datetime
import functools
import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import checkpoint
from sicnn_jax.config.load import load
from sicnn_jax.data import dataset
from sicnn_jax.evaluation.methods import compared_stages
from sicnn_jax.reports.curves import read_metrics
from sicnn_jax.workdir import read_config


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, described by what it is made from.

    Attributes:
      name: for people, the first part of its directory's name.
      config: `FILE[:VARIANT]`.
      overrides: (field, value) in the order in which they are set.
      given: (stage, run that gives it) for stages that are not trained.
      faces: (run, stage) whose CNNH makes the faces to train and test on from those of
        the config (Sets A-SR, Sec. 4.2); (None, '') for bicubic interpolation; None for
        the faces of the config themselves.
    """

    name: str
    config: str
    overrides: tuple[tuple[str, Any], ...] = ()
    given: tuple[tuple[str, 'Run'], ...] = ()
    faces: tuple['Run | None', str] | None = None

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that its result depends on, except the code."""
        parts = {
            'config': json.loads(self.resolved.to_json()),
            'given': {stage: run.key for stage, run in self.given},
            'faces': self.faces
            and [self.faces[0].key if self.faces[0] else '', self.faces[1]],
        }
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def resolved(self) -> ConfigDict:
        """The config with its overrides, only to be read; ValueError if it is bad."""
        return _resolve(self.config, *_flags(self.overrides))

    @property
    def parents(self) -> tuple['Run', ...]:
        """The runs that it needs."""
        faces = (self.faces[0],) if self.faces and self.faces[0] else ()
        return (*dict.fromkeys(run for _, run in self.given), *faces)

    @property
    def own_stages(self) -> tuple[str, ...]:
        """The stages that it trains itself."""
        given = dict(self.given)
        return tuple(stage for stage in self.resolved.stages if stage not in given)


class Cache:
    """A directory of runs, `root`.

    Embedded faces are written once, into `data` below it; misaligned ones next to them.
    """

    def __init__(self, root: Path):
        self.root = root

    def directory(self, run: Run) -> Path:
        return self.root / f'{run.name}-{run.key}'

    def data(self, run: Run) -> ConfigDict:
        """`config.data` of a run, with the directory of its shards if it has any."""
        data = run.resolved.data.copy_and_resolve_references()
        if run.faces is not None:
            data.source, data.dir = 'records', str(self.directory(run) / 'faces')
            data.misalignment = 0.0
        elif data.source == 'embedded':
            kind = f'-misaligned{data.misalignment:g}' if data.misalignment else ''
            data.dir = (data.dir or str(self.root / 'data')) + kind
        return data

    def test_faces(self, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Held-out faces of a run, uint8 [n, 112, 96, 3], and their identities."""
        faces = dataset.open_faces(self.data(run), self.directory(run))
        return faces.test_faces(run.resolved.evaluation.final_faces or None)

    def is_finished(self, run: Run) -> bool:
        directory = self.directory(run)
        if run.faces is None and compared_stages(run.resolved):
            return (directory / 'results.json').is_file()
        return all(checkpoint.has_networks(directory / s) for s in run.own_stages)

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """The runs still to be trained for these, in an order that works."""
        needed = dict.fromkeys(each for run in runs for each in _with_parents(run))
        return [run for run in needed if not self.is_finished(run)]

    def train(self, run: Run) -> None:
        """Trains a run whose parents are finished; continues one that was begun.

        Raises:
          RuntimeError: the run failed; its own error is on the terminal.
        """
        if run.faces is not None:
            self._make_faces(run)
        data, fields = self.data(run), ('source', 'dir', 'misalignment')
        overrides = [
            *run.overrides,
            *((f'data.{field}', data[field]) for field in fields),
            *(
                (f'{stage}.checkpoint', self.directory(parent) / stage)
                for stage, parent in run.given
            ),
        ]
        paths = f'--config={run.config}', f'--workdir={self.directory(run)}'
        _call('sicnn_jax.main', *paths, *_flags(overrides))

    def rates(self) -> dict[str, float]:
        """Images per second of each update rule, the median over the runs here."""
        found: dict[str, list[float]] = {}
        for path in sorted(self.root.glob('*/*/metrics.jsonl')):
            config = read_config(path.parent.parent)
            rule = config[path.parent.name]['update_rule']
            for line in read_metrics(path.parent):
                found.setdefault(rule, []).append(line['images_per_second'])
        return {rule: statistics.median(rates) for rule, rates in found.items()}

    def _make_faces(self, run):
        """Writes the set A-SR of a run, unless it is there."""
        parent, stage = run.faces
        source = self.data(dataclasses.replace(run, faces=None)).dir
        if not source:
            raise ValueError(
                f'{run.name} needs shards of faces to super-resolve, but config.data.'
                f'source is {run.resolved.data.source!r}: give --config.data.source='
                'records and --config.data.dir, or leave recognisability out.'
            )
        out = self.directory(run) / 'faces'
        if (out / 'dataset_info.json').is_file():
            return
        arguments = [
            f'--source={source}',
            f'--out={out}',
            f'--degrade={run.resolved.scale}',
            f'--degradation={run.resolved.degradation}',
        ]
        if parent is not None:
            arguments.append(f'--checkpoint={self.directory(parent) / stage}')
        _call('sicnn_jax.data.prepare', *arguments)


def describe(cache: Cache, runs: Iterable[Run]) -> Iterator[str]:
    """Lines that say what is to be trained, and how long that is likely to take.

    The estimate uses the speed of earlier runs in the cache, and leaves out compilation
    and evaluation.
    """
    rates = cache.rates()
    total, unknown = 0.0, False
    for run in runs:
        seconds = _seconds(run, rates)
        total += seconds or 0.0
        unknown |= seconds is None
        begun = 'continues' if cache.directory(run).exists() else 'to be trained'
        steps = ', '.join(f'{s} {run.resolved[s].steps:,}' for s in run.own_stages)
        yield f'{cache.directory(run)}: {begun} ({steps} steps), {_duration(seconds)}'
    if total:
        more = ', and what is not known yet' if unknown else ''
        yield f'In all {_duration(total)}{more}'


def train_missing(cache: Cache, runs: Iterable[Run], *, dry_run: bool) -> None:
    """Says which runs are missing, and trains them unless it is a dry run."""
    missing = cache.missing(runs)
    for line in describe(cache, missing):
        print(line, flush=True)
    if not dry_run:
        for run in missing:
            cache.train(run)


def _seconds(run, rates):
    stages = [run.resolved[name] for name in run.own_stages]
    if not all(stage.update_rule in rates for stage in stages):
        return None
    return sum(s.steps * s.batch_size / rates[s.update_rule] for s in stages)


def _duration(seconds):
    if seconds is None:
        return 'for how long is known once one of its kind was trained here'
    return f'about {datetime.timedelta(seconds=round(seconds))}'


@functools.cache
def _resolve(config, *overrides):
    """Loads a config once for all runs that are made from it."""
    return load(config, overrides)


def _with_parents(run):
    for parent in run.parents:
        yield from _with_parents(parent)
    yield run


def _flags(overrides):
    return [f'--config.{field}={value}' for field, value in overrides]


def _call(module, *arguments):
    command = [sys.executable, '-m', module, *arguments]
    status = subprocess.run(command).returncode
    if status:
        raise RuntimeError(f'{" ".join(command)} ended with status {status}.')
