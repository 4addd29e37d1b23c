"""The command line, as a user meets it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image

from sicnn_jax import checkpoint, main, pictures

ROOT = Path(__file__).parent.parent


def _run(*arguments, module='sicnn_jax.main', cwd=ROOT):
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    return subprocess.run(
        [sys.executable, '-m', module, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


@pytest.mark.parametrize(
    ('config', 'workdir'),
    [
        ('configs/di.py', 'runs/di'),
        ('/a/b/configs/di.py:demo', 'runs/di-demo'),
        ('cnnr.py', 'runs/cnnr'),
    ],
)
def test_default_workdir_is_named_after_the_config(config, workdir):
    assert main.default_workdir(config) == Path(workdir)


def test_help_explains_the_flags():
    ran = _run('--help')
    assert '--config' in ran.stdout
    assert '--workdir' in ran.stdout
    assert 'configs/di.py:demo' in ran.stdout


def test_a_config_that_is_not_there_says_where_it_was_sought(tmp_path):
    ran = _run('--config=configs/nothing.py', cwd=tmp_path)
    assert ran.returncode == 2
    assert str(tmp_path / 'configs/nothing.py') in ran.stderr
    assert str(ROOT / 'configs/nothing.py') in ran.stderr


def test_a_workdir_in_a_bucket_is_refused_before_anything_is_made(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with flagsaver.as_parsed(config='di:demo', workdir='gs://bucket/run'):
        assert main.main(['main']) == 2
    said = capsys.readouterr().err
    assert said.startswith('Error: --workdir: gs://bucket/run is not a path')
    assert not list(tmp_path.iterdir())


def test_all_that_is_wrong_is_a_message_not_a_traceback(tmp_path):
    ran = _run(
        '--config',
        'configs/di.py:demo',
        '--config.recognition.stepz=3',
        '--config.hallucination.steps=many',
        '--config.dat.dir=x',
        '--config.data.source=web',
        cwd=tmp_path,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith('Error: 4 things are wrong')
    for part in (
        'recognition.stepz is unknown. Did you mean config.recognition.steps?',
        "hallucination.steps is 'many'; expected an integer",
        'config.dat is unknown. Did you mean config.data?',
        "data.source is 'web'",
    ):
        assert part in ran.stderr
    assert 'Traceback' not in ran.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError(f'RESOURCE_EXHAUSTED: [OS error 28: {os.strerror(errno.ENOSPC)}]'),
    ],
)
def test_a_full_disk_is_said_in_words(error, tmp_path):
    with (
        pytest.raises(checkpoint.CheckpointError, match=f'left for {tmp_path}.*Free'),
        main._full_disk_in_words(tmp_path),
    ):
        raise error


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(PermissionError), main._full_disk_in_words(tmp_path):
        raise PermissionError(errno.EACCES, 'no')


LOSE = (jax.errors.JaxRuntimeError, ValueError)


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        # As JAX raised them when one of four processes was killed.
        (jax.errors.JaxRuntimeError, 'Error: another process ended'),
        (ValueError, 'Error: another process ended'),
        (KeyError, 'Traceback'),
        (OSError, 'Error: the disk is gone'),
    ],
)
def test_a_process_that_lost_another_says_so(error, said, monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(os, '_exit', codes.append)
    lost = 'UNKNOWN: Gloo all-reduce failed: Connection closed by peer [127.0.0.1]:60'
    with main._one_ends_all():
        raise error(lost if error in LOSE else 'the disk is gone')
    assert codes == [1] and capsys.readouterr().err.startswith(said)


def test_evaluate_names_a_workdir_that_is_none(tmp_path):
    ran = _run(f'--workdir={tmp_path}', module='sicnn_jax.evaluate')
    assert ran.returncode == 1
    assert f'{tmp_path}/config.json is missing' in ran.stderr


def test_importing_the_package_loads_no_tensorflow_and_starts_no_device():
    code = (
        'import sys, sicnn_jax.train, sicnn_jax.evaluate, sicnn_jax.models\n'
        'from jax._src import xla_bridge\n'
        "assert 'tensorflow' not in sys.modules\n"
        'assert not xla_bridge.backends_are_initialized()\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


def test_a_grid_has_a_row_a_face_and_a_column_a_method(tmp_path):
    red = np.zeros((2, 112, 96, 3), np.uint8)
    red[..., 0] = 255
    path = tmp_path / 'pictures' / 'grid.png'
    pictures.save_grid(path, {'red': red, 'white': np.full_like(red, 255)})
    grid = np.asarray(Image.open(path))
    assert grid.shape == (2 * 116 + 20, 2 * 100 + 4, 3)
    reds = (grid == [255, 0, 0]).all(-1).sum()
    assert reds == 2 * 112 * 96
    assert [entry.name for entry in path.parent.iterdir()] == ['grid.png']


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_to_stop_and_the_second_ends(number, monkeypatch):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    asked = main.stop_on_signals()
    assert not asked()
    os.kill(os.getpid(), number)
    assert asked()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
