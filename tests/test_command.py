"""How commands end."""

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
    assert 'the same command goes on' in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(TypeError):
        command.run(_raising, TypeError())
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
