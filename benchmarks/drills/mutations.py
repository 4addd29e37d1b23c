"""Damage to valid files, drawn by hypothesis; for `fuzz.py`."""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

# Places and lengths beyond the end of a file wrap around to its beginning.
_PLACES = st.integers(0, 2**20)
# Numbers that a program may take for a length, and limits of number types.
NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**29]),
    st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)
# Literals of every kind in JSON and Python.
LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([2**31, 2**63, 10**30, -(10**30)]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(['', '..', '../x', 'x\0', 'x' * 300, '/etc/passwd', '\ud800']),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(0, 3), max_size=2),
)


class Damage(NamedTuple):
    """Damage to a file: its kind from `_KINDS`, its place and its value."""

    kind: str
    place: int
    value: Any

    def __call__(self, content: bytes, others: list[bytes]) -> bytes:
        """The content, damaged; `others` are whole files, to take parts from."""
        place = self.place % (len(content) + 1)
        return _KINDS[self.kind](content, place, self.value, others)


def apply(damages: list[Damage], content: bytes, others: list[bytes]) -> bytes:
    """Applies one damage after the other."""
    for damage in damages:
        content = damage(content, others)
    return content


def damages(most: int = 3) -> st.SearchStrategy[list[Damage]]:
    """One to `most` damages of any kind."""
    values: dict[str, st.SearchStrategy] = {
        'flip': st.integers(0, 7),
        'cut': st.none(),
        'drop': st.integers(1, 64),
        'insert': st.binary(min_size=1, max_size=16),
        'number': st.tuples(st.sampled_from(['<I', '<Q', '>I']), NUMBERS),
        'splice': st.tuples(st.integers(0, 7), _PLACES),
    }
    one = st.sampled_from(sorted(values)).flatmap(
        lambda kind: st.builds(Damage, st.just(kind), _PLACES, values[kind])
    )
    return st.lists(one, min_size=1, max_size=most)


def nodes(tree: Any, path: tuple = ()) -> list[tuple]:
    """The path of every value in nested dicts and lists."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    return [
        path,
        *(found for key, value in items for found in nodes(value, (*path, key))),
    ]


def replace(tree: Any, path: tuple, value: Any) -> Any:
    """A tree with one value replaced."""
    if not path:
        return value
    copy = tree.copy()
    copy[path[0]] = replace(tree[path[0]], path[1:], value)
    return copy


def without(tree: Any, path: tuple) -> Any:
    """A tree without one value."""
    copy = tree.copy()
    if path[1:]:
        copy[path[0]] = without(tree[path[0]], path[1:])
    else:
        del copy[path[0]]
    return copy


def _flip(content, place, bit, others):
    if not content:
        return content
    place %= len(content)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def _number(content, place, value, others):
    layout, number = value
    size = struct.calcsize(layout)
    packed = struct.pack(layout, number % 2 ** (8 * size))
    return content[:place] + packed + content[place + size :]


def _splice(content, place, value, others):
    which, start = value
    other = others[which % len(others)]
    return content[:place] + other[start % (len(other) + 1) :]


_KINDS: dict[str, Callable] = {
    'flip': _flip,
    'cut': lambda content, place, value, others: content[:place],
    'drop': lambda content, place, value, others: (
        content[:place] + content[place + value :]
    ),
    'insert': lambda content, place, value, others: (
        content[:place] + value + content[place:]
    ),
    'number': _number,
    'splice': _splice,
}
