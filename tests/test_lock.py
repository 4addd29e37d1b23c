"""Who else writes to a directory is noticed, and a crash locks nobody out."""

import errno
import json
import os
import platform
import subprocess
import sys

import pytest

from sicnn_jax import lock


def test_a_second_run_is_told_of_the_first(tmp_path):
    directory = tmp_path / 'a' / 'run'
    with lock.hold(directory):
        (directory / 'kept').touch()
        with pytest.raises(lock.InUseError) as caught, lock.hold(directory):
            pytest.fail('both are in')
        assert (
            f'{directory} is in use by another run: process {os.getpid()} on '
            in str(caught.value)
        )
    with lock.hold(directory):
        pass
    assert [path.name for path in directory.iterdir()] == ['kept']


def test_nothing_is_left_where_nothing_was_written(tmp_path):
    with pytest.raises(KeyError), lock.hold(tmp_path / 'a' / 'run'):
        raise KeyError
    assert not list(tmp_path.iterdir())
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='is a file'), lock.hold(tmp_path / 'file'):
        pass


def test_a_crash_leaves_no_lock(tmp_path, capsys):
    code = (
        'import os, pathlib, sys\n'
        'from sicnn_jax import lock\n'
        'with lock.hold(pathlib.Path(sys.argv[1])):\n'
        '    os._exit(9)\n'
    )
    command = [sys.executable, '-c', code, str(tmp_path)]
    assert subprocess.run(command).returncode == 9
    assert json.loads((tmp_path / '.lock').read_text())['host'] == platform.node()
    with lock.hold(tmp_path):
        pass
    assert not capsys.readouterr().err


def test_a_run_on_another_host_is_warned_of(tmp_path, capsys):
    owner = {'host': 'elsewhere', 'pid': 7, 'since': 'noon'}
    (tmp_path / '.lock').write_text(json.dumps(owner))
    with lock.hold(tmp_path):
        assert 'process 7 on elsewhere, since noon' in capsys.readouterr().err
    (tmp_path / '.lock').write_text('{"host"')
    with lock.hold(tmp_path):
        assert not capsys.readouterr().err


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, 'flock', refuse)
    with lock.hold(tmp_path):
        assert 'cannot be locked (No locks available)' in capsys.readouterr().err


def test_a_function_holds_the_directory_that_it_is_given(tmp_path):
    @lock.one_at_a_time(lambda out, **_: out)
    def write(out, again):
        if again:
            write(out, again=False)

    write(tmp_path, again=False)
    with pytest.raises(lock.InUseError):
        write(tmp_path, again=True)
