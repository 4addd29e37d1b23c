"""Processes that train as one: how they are launched, and the same result as of one."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import drilling
from sicnn_jax import checkpoint, parallel

LAUNCHER = drilling.ROOT / 'launch' / 'local_multiprocess.py'


def _launch(processes, *command, **settings):
    return subprocess.run(
        [sys.executable, str(LAUNCHER), f'--processes={processes}', *command],
        capture_output=True,
        text=True,
        **settings,
    )


def _python(code, **settings):
    return _launch(3, '--grace=0.5', '--', sys.executable, '-c', code, **settings)


def test_each_process_is_told_who_it_is_and_shown_by_its_number():
    ran = _python(
        'from os import environ\n'
        'print(environ["JAX_PROCESS_ID"], environ["JAX_NUM_PROCESSES"])'
    )
    assert ran.returncode == 0
    lines = sorted(line for line in ran.stdout.splitlines() if line.startswith('['))
    assert lines == ['[0] 0 3', '[1] 1 3', '[2] 2 3']


@pytest.mark.parametrize(
    ('end', 'status'), [('sys.exit(3)', 3), ('os.kill(os.getpid(), 9)', 137)]
)
def test_one_that_fails_ends_all(end, status):
    code = (
        'import os, sys, time\n'
        f'if os.environ["JAX_PROCESS_ID"] == "1": {end}\n'
        'time.sleep(60)'
    )
    ran = _python(code, timeout=30)
    assert ran.returncode == status
    assert 'Process 1 ended' in ran.stderr and 'Killed: 0, 2' in ran.stderr


def test_stopped_is_told_from_failed():
    assert _python('import sys; sys.exit(75)').returncode == 75


@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        ({'JAX_NUM_PROCESSES': '2'}, 'JAX_PROCESS_ID None; expected numbers'),
        ({'JAX_PROCESS_ID': 'x', 'JAX_NUM_PROCESSES': '2'}, "JAX_PROCESS_ID 'x'"),
    ],
)
def test_a_variable_that_is_missing_is_named(variables, message, monkeypatch):
    monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', '127.0.0.1:1')
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        parallel.connect()


def test_two_processes_train_as_one(tmp_path):
    """Stage 1, with the same global batch on four devices."""
    for processes in (1, 2):
        command = drilling.command(tmp_path / str(processes), steps=4)
        command = [
            '--config.stages=("recognition",)' if 'config.stages' in part else part
            for part in command
        ]
        cache = os.environ['JAX_COMPILATION_CACHE_DIR']
        environment = drilling.environment(4 // processes)
        environment['JAX_COMPILATION_CACHE_DIR'] = cache
        ran = _launch(processes, '--', *command, env=environment, cwd=drilling.ROOT)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert ran.stdout.count('[recognition] 4/4') == 1
    one, two = (
        jax.tree.leaves(checkpoint.load_networks(tmp_path / run / 'recognition')[0])
        for run in ('1', '2')
    )
    for x, y in zip(one, two, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
    lines = [
        (tmp_path / run / 'recognition' / 'metrics.jsonl').read_text().splitlines()
        for run in ('1', '2')
    ]
    assert len(lines[0]) == len(lines[1]) == 2
    for first, second in zip(*map(lambda ls: map(json.loads, ls), lines), strict=True):
        loss = 'recognition_loss'
        assert first[loss] == pytest.approx(second[loss], rel=1e-5)
