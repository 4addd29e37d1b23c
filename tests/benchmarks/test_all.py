"""The list of benchmarks."""

import sys

from benchmarks import all as all_benchmarks


def test_every_small_size_is_that_of_a_command():
    assert set(all_benchmarks.QUICK) <= set(all_benchmarks.commands())


def test_commands_are_found_with_a_line_each():
    found = all_benchmarks.commands()
    assert 'schedule' in found
    # Used by the others, no commands; and not itself.
    assert not {'measuring', 'pytorch_twin', 'all'} & set(found)
    assert all(line.endswith(('.', '?')) for line in found.values())


def test_a_failure_stops_no_other_and_shows_in_the_exit_code(monkeypatch, capsys):
    def run(name, extra, *, quick):
        return (1 if name == 'counting' else 0), 2.0

    monkeypatch.setattr(all_benchmarks, 'run', run)
    monkeypatch.setattr(sys, 'argv', ['all', '--only=counting,detection,schedule'])
    assert all_benchmarks.main() == 1
    assert 'counting | failed (1)' in (printed := capsys.readouterr().out)
    assert 'schedule | ran' in printed
    assert 'detection | left out' in printed
