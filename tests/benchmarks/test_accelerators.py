"""One command for accelerators: it ends in time and says what came of each part."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import accelerators
from benchmarks import all as all_benchmarks


@pytest.mark.parametrize('measurements', ['MEASUREMENTS', 'TINY'])
def test_what_is_measured_are_commands(measurements):
    known = all_benchmarks.commands()
    for each in getattr(accelerators, measurements):
        assert each.name in known


def test_a_dry_run_says_what_it_would_measure(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['accelerators', '--dry_run'])
    monkeypatch.setattr(accelerators, 'run', None)
    assert accelerators.main() == 0
    assert 'speed.schedule --iterations=200 | bfloat16' in capsys.readouterr().out


def test_parts_are_left_out_ended_or_failed(monkeypatch):
    times = iter([0.0, 0.0, 30.0, 50.0, 70.0])
    monkeypatch.setattr(
        accelerators, 'time', SimpleNamespace(monotonic=lambda: next(times))
    )
    codes = {'one': 0, 'two': 1, 'three': None}
    limits = []

    def run(name, arguments, *, quick, limit):
        limits.append(limit)
        return codes[name], 5.0

    monkeypatch.setattr(accelerators, 'run', run)
    rows = accelerators.measure(
        tuple(
            accelerators.Measurement(name, ('--x',), '', package)
            for name, package in (
                ('one', ''),
                ('left', 'no_such_package'),
                ('two', ''),
                ('three', ''),
                ('four', ''),
            )
        ),
        1.0,
    )
    assert limits == [60, 30, 10]
    assert [cells[0] for _, cells in rows] == [
        'ran',
        'left out: needs no_such_package',
        'failed (1)',
        'ended: no time was left',
        'left out: no time is left',
    ]


def test_what_takes_too_long_is_ended_with_its_children(monkeypatch, tmp_path):
    script = tmp_path / 'endless'
    script.write_text('#!/bin/sh\nsleep 60 & echo $! > "$0.child"; wait\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(script))
    code, seconds = all_benchmarks.run('counting', [], quick=False, limit=1.0)
    assert code is None
    assert seconds < 30
    child = Path('/proc') / (tmp_path / 'endless.child').read_text().strip()
    for _ in range(100):
        # One that nobody has waited for yet is a zombie.
        if not child.exists() or ') Z ' in (child / 'stat').read_text():
            return
        time.sleep(0.1)
    pytest.fail('its child still runs')
