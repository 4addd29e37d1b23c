"""The list of benchmarks."""

import sys
from pathlib import Path

from benchmarks import all as all_benchmarks


def test_every_small_size_is_that_of_a_command():
    assert set(all_benchmarks.QUICK) <= set(all_benchmarks.commands())


def test_commands_are_found_with_a_line_each():
    found = all_benchmarks.commands()
    assert {'counting', 'speed.schedule', 'drills.soak', 'studies.seeds'} <= set(found)
    # Used by the others, no commands; and not itself.
    assert not {'measuring', 'pytorch_twin', 'drills.drilling', 'all'} & set(found)
    assert all(line.endswith(('.', '?')) for line in found.values())


def test_what_demands_files_is_left_out_without_them():
    folder = Path(all_benchmarks.__file__).parent
    texts = {
        name: (folder / f'{name.replace(".", "/")}.py').read_text()
        for name in all_benchmarks.commands()
    }
    demanding = {
        name
        for name, text in texts.items()
        if 'required=True' in text or 'light.parser(' in text
    }
    assert demanding == all_benchmarks.OF_PHOTOGRAPHS | all_benchmarks.OF_ONES_OWN


def test_a_failure_stops_no_other_and_shows_in_the_exit_code(monkeypatch, capsys):
    def run(name, extra, *, quick):
        return (1 if name == 'counting' else 0), 2.0

    monkeypatch.setattr(all_benchmarks, 'run', run)
    chosen = 'counting,speed.detection,speed.schedule,studies.groups'
    monkeypatch.setattr(sys, 'argv', ['all', f'--only={chosen}'])
    assert all_benchmarks.main() == 1
    assert 'counting | failed (1)' in (printed := capsys.readouterr().out)
    assert 'speed.schedule | ran' in printed
    assert 'speed.detection | left out' in printed
    assert 'studies.groups | left out' in printed
