"""The command `sicnn`, as a user meets it."""

import errno
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from sicnn_jax import cli, command, evaluate
from sicnn_jax.config import find
from sicnn_jax.evaluation import compare
from tests.tiny_run import write_run

ROOT = Path(__file__).parent.parent


def run(*arguments):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    environment.pop('TF_CPP_MIN_LOG_LEVEL', None)
    return subprocess.run(
        [sys.executable, '-m', 'sicnn_jax.cli', *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def test_help_names_every_command_and_config(capsys):
    assert cli.main(['--help']) == 0
    shown = capsys.readouterr().out
    assert all(f'  {command} ' in shown for command in cli.COMMANDS)
    names = find.names()
    assert {'di', 'cnnr', 'cnnh'} <= set(names) and 'common' not in names
    assert ', '.join(names) in shown
    assert cli.main([]) == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['trane'], "'trane' is not a command; expected one of train, prepare"),
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


def test_colour_is_for_terminals(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def said(stream):
        monkeypatch.setattr(sys, 'stderr', stream)
        assert command.fail('no') == 1
        return stream.getvalue()

    monkeypatch.delenv('NO_COLOR', raising=False)
    assert said(Terminal()) == '\033[31mError:\033[0m no\n'
    assert said(io.StringIO()) == 'Error: no\n'
    monkeypatch.setenv('NO_COLOR', '1')
    assert said(Terminal()) == 'Error: no\n'


def test_errors_of_a_command_become_its_status(tmp_path, capsys):
    assert cli.main(['report', f'--workdir={tmp_path}']) == 1
    assert 'config.json is missing' in capsys.readouterr().err
    assert cli.main(['export', '--format=exe']) == 2


def test_results_go_where_they_can_be_written(tmp_path, monkeypatch, capsys):
    """Of a run that is only to be read, into --out; which is seen first."""
    write_run(tmp_path / 'run', recognition=False)
    written = []
    monkeypatch.setattr(
        compare, 'run', lambda _, workdir, *, out, **__: written.append((workdir, out))
    )

    def touch(path):
        if path.is_relative_to(tmp_path / 'run'):
            raise OSError(errno.EROFS, 'Read-only file system', str(path))

    monkeypatch.setattr(Path, 'touch', touch)
    monkeypatch.setattr(Path, 'unlink', lambda path: None)
    flags = [f'--workdir={tmp_path / "run"}', '--data=x']
    assert evaluate.main(flags) == 1
    said = f'{tmp_path / "run"} takes no files (Read-only file system): give --out='
    assert said in capsys.readouterr().err and not written
    assert evaluate.main([*flags, f'--out={tmp_path / "mine"}']) == 0
    assert written == [(tmp_path / 'run', tmp_path / 'mine')]


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
    """An environment with the package, and with the libraries of this one.

    From the source distribution, which has to hold all that a wheel is made of.
    """
    folder = tmp_path_factory.mktemp('installed')
    # A copy: building writes beside setup.py.
    source = folder / 'source'
    ignored = shutil.ignore_patterns(
        '.*', '__pycache__', '*.egg-info', 'build', 'runs', 'tests'
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    environment = folder / 'environment'
    venv.create(environment, system_site_packages=True, with_pip=False)
    python = environment / 'bin' / 'python'
    pip = [sys.executable, '-m', 'pip', '--python', str(python), '-q', 'install']
    options = ['--no-deps', '--no-build-isolation', '--no-index']
    (site,) = environment.glob('lib/python*/site-packages')
    # A path alone: what is editable here is not seen there.
    (site / 'libraries.pth').write_text(f'{sysconfig.get_path("purelib")}\n')
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'sdist', f'--dist-dir={folder}'],
        check=True,
        cwd=source,
    )
    (archive,) = folder.glob('*.tar.gz')
    subprocess.run([*pip, *options, str(archive)], check=True)
    return environment


@pytest.mark.parametrize('config', ['di:demo', 'mine.py', 'importing.py'])
def test_an_installed_package_finds_configs_from_anywhere(installed, tmp_path, config):
    """Those that ship, and one's own, with and without what ships."""
    alone = 'from sicnn_jax.config import schema\nget_config = schema.base\n'
    (tmp_path / 'mine.py').write_text(alone)
    (tmp_path / 'importing.py').write_text('from configs.di import get_config\n')
    ran = subprocess.run(
        [
            installed / 'bin' / 'sicnn',
            'train',
            f'--config={config}',
            '--config.data.source=web',
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != 'PYTHONPATH'},
    )
    assert ran.returncode == 1
    # Nothing else: no start-up messages, no traceback.
    assert ran.stderr.startswith('Error: ') and "data.source is 'web'" in ran.stderr
    assert len(ran.stderr.splitlines()) == (3 if config == 'mine.py' else 1)
    assert list(installed.glob('lib/*/site-packages/sicnn_jax/py.typed'))
    assert not list(installed.glob('lib/*/site-packages/configs'))


def test_help_of_train_lists_its_flags():
    ran = run('train', '--help')
    assert ran.returncode == 0
    assert '--workdir' in ran.stdout and 'configs/di.py:demo' in ran.stdout
