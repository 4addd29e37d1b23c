"""What the drills share: a tiny run as processes of its own, and what two runs left.

All three stages of the paper at the smallest shapes, on CPU devices.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sicnn_jax import checkpoint

ROOT = Path(__file__).resolve().parent.parent
STAGES = ('recognition', 'hallucination', 'domain_integrated')
_FIELDS = {
    'data.identities': 4,
    'data.images_per_identity': 4,
    'data.test_identities': 3,
    'data.test_images_per_identity': 4,
    'cnnr.widths': (2, 2, 3, 4),
    'cnnr.depths': (1, 1, 1, 1),
    'cnnr.feature_dim': 8,
    'cnnh.width': 3,
    'cnnh.growth': 2,
    'cnnh.depth': 1,
    'cnnh.deconv_width': 3,
    'log_every': 2,
    'evaluation.faces': 12,
    'evaluation.pairs': 20,
    'evaluation.final_pairs': 20,
    'evaluation.pictures': 2,
}
# Of each stage.
_STAGE_FIELDS = {'batch_size': 8, 'evaluate_every': 10, 'checkpoint_every': 2}
# Their files have names of chance, or one for each start.
_NAMED_BY_CHANCE = {'state', 'params', 'tensorboard'}


def fields(steps: int, stages: tuple[str, ...] = STAGES) -> dict[str, Any]:
    """What makes configs/di.py:demo tiny: values by the path of the field."""
    return (
        _FIELDS
        | {'stages': stages}
        | {
            f'{stage}.{field}': value
            for stage in stages
            for field, value in (_STAGE_FIELDS | {'steps': steps}).items()
        }
    )


def command(workdir: Path, fields: Mapping[str, Any]) -> list[str]:
    """Trains all stages, with those values of the config's fields, and evaluates."""
    return [
        sys.executable,
        *('-m', 'sicnn_jax.main', '--config=configs/di.py:demo'),
        f'--workdir={workdir}',
        *(f'--config.{field}={value}' for field, value in fields.items()),
    ]


def start(command: Sequence[str], devices: int) -> subprocess.Popen[str]:
    """Begins a command with so many CPU devices; all that it prints is its `stdout`."""
    return subprocess.Popen(
        command,
        env=environment(devices),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def environment(devices: int) -> dict[str, str]:
    """For such a run: so many CPU devices, and programs compiled once for all runs."""
    cache = Path(tempfile.gettempdir()) / 'sicnn_jax_drills'
    return os.environ | {
        'PYTHONPATH': str(ROOT),
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
        'JAX_COMPILATION_CACHE_DIR': str(cache),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
        'TF_CPP_MIN_LOG_LEVEL': '3',
    }


def differences(
    workdir: Path, expected: Path, stages: tuple[str, ...] = STAGES
) -> Iterator[str]:
    """What is not as in another run, bit for bit."""
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
    """Of any parameter that a stage ended with."""
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
