"""Processes that train as one: how they are launched, and the same result as of one."""

import json
import os
import runpy
import subprocess
import sys
import threading
import types

import jax
import numpy as np
import pytest

from configs import di
from sicnn_jax import checkpoint, parallel, train
from tests import tiny_training

LAUNCHER = tiny_training.ROOT / 'launch' / 'local_multiprocess.py'


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


def test_of_those_that_ended_together_the_killed_one_counts():
    """The others failed since they could not reach it."""
    wait = runpy.run_path(str(LAUNCHER))['_wait']
    ended = [types.SimpleNamespace(poll=lambda code=code: code) for code in (1, 1, -9)]
    assert wait(ended, grace=0) == 137


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


@pytest.mark.parametrize(
    ('variables', 'called'),
    [
        ({'JAX_NUM_PROCESSES': '1'}, None),
        ({'TPU_WORKER_HOSTNAMES': 'localhost'}, None),
        ({'TPU_WORKER_HOSTNAMES': 'a,b'}, {}),
        (
            {
                'JAX_COORDINATOR_ADDRESS': 'a:1',
                'JAX_NUM_PROCESSES': '4',
                'JAX_PROCESS_ID': '3',
            },
            {'num_processes': 4, 'process_id': 3},
        ),
        # One process a node, with all its GPUs; one a GPU, as JAX has it.
        ({'SLURM_NTASKS': '2', 'SLURM_NNODES': '2'}, {'local_device_ids': []}),
        ({'SLURM_NTASKS': '8', 'SLURM_NNODES': '2'}, {}),
    ],
)
def test_what_the_environment_says_is_given_to_jax(variables, called, monkeypatch):
    calls = []

    def initialize(address=None, heartbeat_timeout_seconds=100, **settings):
        calls.append((address, settings))

    monkeypatch.setattr(jax.distributed, 'initialize', initialize)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    parallel.connect()
    address = variables.get('JAX_COORDINATOR_ADDRESS')
    assert calls == ([] if called is None else [(address, called)])


def test_who_waits_for_others_says_so_and_gives_up(monkeypatch, capsys):
    came = threading.Event()
    monkeypatch.setattr(jax.distributed, 'initialize', lambda *_, **__: came.wait(9))
    for name, seconds in (('_AT_ONCE', 0.01), ('_NOTE', 0.05), ('_PATIENCE', 0.12)):
        monkeypatch.setattr(parallel, name, seconds)
    for name, value in (('SLURM_NTASKS', '4'), ('SLURM_PROCID', '0')):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r'did not join .*JAX_NUM_PROCESSES=1'):
        parallel.connect()
    came.set()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert all('(SLURM_NTASKS=4, SLURM_PROCID=0). If there are' in s for s in lines)


def test_pods_that_cannot_find_each_other_are_refused():
    # In a process of its own: JAX connects only before its first computation.
    pods = {'JOB_COMPLETION_INDEX': '1', 'KUBERNETES_PORT': 'tcp://10.0.0.1:443'}
    command = 'from sicnn_jax import parallel; parallel.connect()'
    ran = subprocess.run(
        [sys.executable, '-c', command],
        env=os.environ | pods,
        capture_output=True,
        text=True,
    )
    assert ran.returncode and 'jax[k8s]' in ran.stderr.splitlines()[-1]


@pytest.fixture(scope='module')
def one_process(tmp_path_factory):
    """Stage 1, as this process trains it on eight devices."""
    workdir = tmp_path_factory.mktemp('processes') / '1'
    config = di.get_config('demo')
    # Two a device, of which each process has some.
    fields = tiny_training.fields(4, ('recognition',)) | {'data.identities': 11}
    config.update_from_flattened_dict(fields)
    train.run(config, workdir)
    return workdir, fields | {'data.dir': workdir / 'data'}


@pytest.mark.skipif(
    jax.__version_info__ < (0, 7),
    reason='broadcasts of two CPU processes with several devices each may overlap',
)
@pytest.mark.parametrize('split', [False, True])
def test_two_processes_train_as_one(one_process, split, tmp_path):
    """Also where each has the class weights of some identities only."""
    expected, fields = one_process
    fields = fields | {'recognition_loss.split_identities': split}
    ran = _launch(
        2,
        '--',
        *tiny_training.command(tmp_path / 'run', fields),
        env=tiny_training.environment(4)
        | {'JAX_COMPILATION_CACHE_DIR': os.environ['JAX_COMPILATION_CACHE_DIR']},
        cwd=tiny_training.ROOT,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count('[recognition] 4/4') == 1
    one, two = (
        jax.tree.leaves(checkpoint.load_networks(run / 'recognition')[0])
        for run in (expected, tmp_path / 'run')
    )
    for x, y in zip(one, two, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)
    lines = [
        (run / 'recognition' / 'metrics.jsonl').read_text().splitlines()
        for run in (expected, tmp_path / 'run')
    ]
    assert len(lines[0]) == len(lines[1]) == 2
    for pair in zip(*lines, strict=True):
        first, second = map(json.loads, pair)
        loss = 'recognition_loss'
        assert first[loss] == pytest.approx(second[loss], rel=1e-4)
