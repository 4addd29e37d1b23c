"""The fuzzing drill: it finds what is wrong, and there is nothing to find."""

import time

import pytest
from hypothesis import strategies as st

from benchmarks.drills import fuzz, fuzz_targets, mutations


@pytest.mark.parametrize(
    ('name', 'count'),
    [('records', 12), ('recordio', 80), ('bin', 80), ('overrides', 15)],
)
def test_inputs_are_read_right_or_refused(name, count, tmp_path):
    tally = fuzz.Tally()
    fuzz.try_inputs(fuzz_targets.targets()[name](tmp_path), 7, count, tally)
    assert not tally.findings
    assert tally.counts['tried'] == count
    assert tally.counts['refused'] > 0


def test_findings_are_counted_by_place_with_the_smallest_input(monkeypatch):
    def attempt(number):
        if number == 0:
            raise ValueError('ours')
        if number == 1:
            time.sleep(1)
        if number > 5:
            raise KeyError('not ours')

    monkeypatch.setattr(fuzz, '_PATIENCE', 0.05)
    target = fuzz_targets.Target(st.integers(0, 90), attempt, (ValueError,))
    tally = fuzz.Tally()
    fuzz.try_inputs(target, 0, 91, tally)
    found = tally.findings["KeyError in fuzz_targets: 'not ours'"]
    assert found['count'] > 20
    assert len(found['input']) == 1
    assert any(what.startswith('_Slow') for what in tally.findings)
    assert tally.counts['refused'] == 1
    assert 0 < tally.counts['read'] <= 4


@pytest.mark.parametrize(
    ('kind', 'place', 'value', 'expected'),
    [
        ('flip', 1, 0, b'acc'),
        ('cut', 2, None, b'ab'),
        ('drop', 0, 2, b'c'),
        ('insert', 4, b'x', b'xabc'),
        ('number', 1, ('<I', 1), b'a\1\0\0\0'),
        ('splice', 1, (2, 2), b'az'),
    ],
)
def test_damage(kind, place, value, expected):
    damage = mutations.Damage(kind, place, value)
    assert mutations.apply([damage], b'abc', [b'xyz', b'']) == expected


def test_values_of_a_tree_are_found_replaced_and_taken_out():
    tree = {'a': [1, {'b': 2}]}
    assert mutations.nodes(tree) == [(), ('a',), ('a', 0), ('a', 1), ('a', 1, 'b')]
    assert mutations.replace(tree, ('a', 1, 'b'), 3) == {'a': [1, {'b': 3}]}
    assert mutations.without(tree, ('a', 0)) == {'a': [{'b': 2}]}
    assert tree == {'a': [1, {'b': 2}]}
