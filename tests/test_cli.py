"""The command `sicnn`, as a user meets it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sicnn_jax import cli
from tests.tiny_run import write_run

ROOT = Path(__file__).parent.parent


def run(*arguments, cwd=ROOT, path=ROOT):
    environment = {**os.environ, 'PYTHONPATH': str(path)}
    environment.pop('TF_CPP_MIN_LOG_LEVEL', None)
    return subprocess.run(
        [sys.executable, '-m', 'sicnn_jax.cli', *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


def test_help_names_every_command_and_config(capsys):
    assert cli.main(['--help']) == 0
    shown = capsys.readouterr().out
    assert all(f'  {command} ' in shown for command in cli.COMMANDS)
    names = cli.config_names()
    assert {'di', 'cnnr', 'cnnh'} <= set(names) and 'common' not in names
    assert ', '.join(names) in shown
    assert cli.main([]) == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['trane'], "'trane' is no command; expected one of train, prepare"),
        (['train', '--config=dii:demo'], "no config 'dii' ships; expected one of "),
        (['train', '--config', 'dii'], "no config 'dii' ships"),
        (['verify', '--workdir=runs/di'], '--pairs is missing'),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith('Error: ') and message in captured.err
    assert '\033' not in captured.err


def test_paths_stay_and_names_are_found():
    assert cli.find_config('configs/di.py:demo') == 'configs/di.py:demo'
    assert cli.find_config('mine.py') == 'mine.py'
    assert cli.find_config('di:small') == f'{ROOT / "configs" / "di.py"}:small'


def test_colour_is_for_terminals(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.delenv('NO_COLOR', raising=False)
    assert cli.paint('Error:', Terminal()) == '\033[31mError:\033[0m'
    monkeypatch.setenv('NO_COLOR', '1')
    assert cli.paint('Error:', Terminal()) == 'Error:'
    assert cli.paint('Error:', sys.__stdin__) == 'Error:'


def test_errors_of_a_command_become_its_status(tmp_path, capsys):
    assert cli.main(['report', f'--workdir={tmp_path}']) == 1
    assert 'config.json is missing' in capsys.readouterr().err
    assert cli.main(['export', '--format=exe']) == 2


def test_quiet_says_nothing(tmp_path, capfd):
    write_run(tmp_path, recognition=False)
    out = tmp_path / 'cnnh.safetensors'
    flags = [f'--checkpoint={tmp_path}', '--format=safetensors', f'--out={out}']
    assert cli.main(['export', *flags]) == 0
    assert str(out) in capfd.readouterr().out
    out.unlink()
    assert cli.main(['export', '--quiet', *flags]) == 0
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ('', '')
    assert out.is_file()


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """What a wheel holds."""
    folder = tmp_path_factory.mktemp('installed')
    command = [sys.executable, 'setup.py', '-q', 'build_py', f'--build-lib={folder}']
    subprocess.run(command, check=True, cwd=ROOT)
    return folder


def test_an_installed_package_finds_its_configs_from_anywhere(installed, tmp_path):
    assert (installed / 'sicnn_jax' / 'py.typed').is_file()
    assert not (installed / 'configs').exists()
    ran = run(
        'train',
        '--config=di:demo',
        '--config.data.source=web',
        cwd=tmp_path,
        path=installed,
    )
    assert ran.returncode == 1
    # Nothing else: no start-up messages.
    assert ran.stderr.startswith('Error: ') and 'data.source' in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_help_of_train_lists_its_flags():
    ran = run('train', '--help')
    assert ran.returncode == 0
    assert '--workdir' in ran.stdout and 'configs/di.py:demo' in ran.stdout
