"""How commands end."""

import errno
import io
import subprocess
import sys

import pytest

from sicnn_jax import command


def _raising(error):
    raise error


@pytest.mark.parametrize(
    ('function', 'status', 'said'),
    [
        (lambda: None, command.DONE, ''),
        (lambda: command.STOPPED, command.STOPPED, ''),
        (lambda: _raising(ValueError('no such file')), 1, 'Error: no such file\n'),
        (lambda: _raising(KeyboardInterrupt()), 130, ''),
    ],
)
def test_ends(function, status, said, capsys):
    assert command.run(function) == status
    assert capsys.readouterr().err == said


def test_what_an_interruption_leaves_is_said(capsys):
    assert command.run(_raising, KeyboardInterrupt(), goes_on=True) == 130
    assert 'the same command continues' in capsys.readouterr().err


@pytest.mark.parametrize('kind', [TypeError, AssertionError, KeyError, RuntimeError])
def test_a_fault_of_ours_keeps_its_traceback(kind):
    with pytest.raises(kind):
        command.run(_raising, kind())


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (FileNotFoundError(2, 'No such file', 'a'), 'a: No such file: is it spelled'),
        (PermissionError(1, 'No', b'a', 0, 'b'), 'a → b: No: choose a place where you'),
        (OSError(errno.EROFS, 'Read-only', 'a'), 'a: Read-only: choose a place where'),
        (OSError(errno.ESTALE, 'Stale file handle'), 'Stale file handle: check the'),
        (OSError(errno.EMFILE, 'Too many', 3), 'Too many: allow more by ulimit'),
        (OSError('as a\nlibrary says it\n'), 'as a library says it'),
        (MemoryError('2 GiB'), 'memory ran out (2 GiB): close other'),
        (
            RuntimeError("Unable to initialize backend 'tpu'"),
            "the devices do not start: Unable to initialize backend 'tpu'. JAX_PLAT",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(error, said, capsys, monkeypatch):
    monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
    # Whatever else a command says in one line.
    assert command.run(_raising, error, errors=()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'Error: {said}')


def test_a_device_that_is_not_there_is_no_fault_of_ours(capsys, monkeypatch):
    """JAX asserts that there is one; other assertions are faults."""
    monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
    asserting = compile('assert False', '/site/jax/_src/xla_bridge.py', 'exec')
    assert command.run(exec, asserting) == 1
    assert 'there are none. JAX_PLATFORMS=cuda asks' in capsys.readouterr().err
    with pytest.raises(AssertionError):
        command.run(exec, 'assert False')


def test_what_a_terminal_has_no_letters_for_is_printed_all_the_same(monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(printed, 'ascii'))
    assert command.run(lambda: print('12×14', 'caf\udce9', flush=True)) == 0
    assert printed.getvalue() == b'12\\xd714 caf\\udce9\n'


def test_errors_that_a_command_leaves_are_raised():
    with pytest.raises(ValueError):
        command.run(_raising, ValueError(), errors=())


def test_whoever_has_seen_enough_is_no_error():
    code = (
        'from sicnn_jax import command\n'
        'raise SystemExit(command.run(lambda: [print(i) for i in range(10**5)][:0]))'
    )
    ran = subprocess.run(
        f'"{sys.executable}" -c "{code}" | head -n 1',
        shell=True,
        capture_output=True,
        text=True,
    )
    assert (ran.stdout, ran.stderr) == ('0\n', '')


def test_help_has_the_example_and_the_defaults():
    parser = command.parser('demo', 'Shows it.\n\n    python -m demo --port=1\n')
    parser.add_argument('--port', type=int, default=7860, help='port of the page')
    parser.add_argument('--out', help='file to write; default: none')
    parser.add_argument('--name', default='', help='name of it')
    shown = parser.format_help()
    assert 'Shows it.\n\n    python -m demo --port=1\n' in shown
    assert 'port of the page (default: 7860)' in shown
    assert shown.count('default') == 2
