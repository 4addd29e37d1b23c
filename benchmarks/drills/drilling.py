"""Shared by the drills: a tiny run in its own process, and the comparison of two."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from sicnn_jax import checkpoint
from tests.tiny_training import ROOT, STAGES, environment

# The files in these folders have random names, or there is one for each start.
_NAMED_BY_CHANCE = {'state', 'params', 'tensorboard'}


def start(command: Sequence[str], devices: int) -> subprocess.Popen[str]:
    """Starts a command with CPU devices; all of its output goes to its `stdout`."""
    return subprocess.Popen(
        command,
        env=environment(devices),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def differences(
    workdir: Path, expected: Path, stages: tuple[str, ...] = STAGES
) -> Iterator[str]:
    """The differences from another run, bit for bit."""
    for stage in stages:
        if largest_difference(workdir, expected, stage):
            yield f'{stage}: the networks'
        for kind in ('last', 'best'):
            if _states(workdir / stage / kind) != _states(expected / stage / kind):
                yield f'{stage}: the states in {kind}'
        for name in ('metrics.jsonl', 'events.jsonl'):
            if _lines(workdir / stage / name) != _lines(expected / stage / name):
                yield f'{stage}: {name}'
    results = [
        json.loads((run / 'results.json').read_text()) for run in (workdir, expected)
    ]
    if results[0] != results[1]:
        yield 'results.json'
    ours, theirs = _files(workdir), _files(expected)
    yield from (f'orphan: {name}' for name in sorted(ours - theirs))
    yield from (f'missing: {name}' for name in sorted(theirs - ours))


def largest_difference(workdir: Path, expected: Path, stage: str) -> float:
    """The largest difference in any final parameter of a stage."""
    leaves = [
        jax.tree.leaves(checkpoint.load_networks(run / stage)[0])
        for run in (workdir, expected)
    ]
    return max(float(np.abs(a - b).max()) for a, b in zip(*leaves, strict=True))


def _states(directory):
    """Checksum of the whole state (step, networks, optimisers) by step."""
    return {
        path.parent.parent.name: json.loads(path.read_text())['crc32']
        for path in directory.glob('*/record/metadata')
    }


def _lines(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k != 'images_per_second'} for line in lines
    ]


def _files(workdir):
    return {
        path.relative_to(workdir).as_posix()
        for path in workdir.rglob('*')
        if not _NAMED_BY_CHANCE & set(path.relative_to(workdir).parts[:-1])
    }
