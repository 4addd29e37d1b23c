"""Names of files as text.

A name on disk is bytes. It may be no UTF-8, as in old archives, where Python has
surrogates for it that no text file, record or terminal takes. And it may be spelled
otherwise than where it is mentioned: macOS takes `é` apart, into two characters.
"""

import contextlib
import functools
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import TypeVar

__all__ = ['ByName', 'canonical', 'encode', 'find', 'printable']

_Value = TypeVar('_Value')
# What a surrogate stands for a byte with, and where those bytes begin and end.
_OFFSET, _FIRST, _LAST = 0xDC00, 0xDC80, 0xDCFF
_SURROGATES = re.compile('[\ud800-\udfff]')
_UNPRINTABLE = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_ESCAPE = '\\x'


def printable(name: str) -> str:
    r"""A name in one line of UTF-8: `caf\xe9.png` where the é is a byte of Latin-1."""
    # In a locale such as C, Python has surrogates for all that is no ASCII.
    with contextlib.suppress(UnicodeError):
        name = name.encode('utf-8', 'surrogateescape').decode(
            'utf-8', 'surrogateescape'
        )
    return _UNPRINTABLE.sub(_escaped, name)


def encode(text: str, backslash: str = '\\') -> bytes:
    """A text in UTF-8, in which names are `printable`.

    Args:
      text: of any lines.
      backslash: how the text writes one: JSON has two.
    """
    return _SURROGATES.sub(lambda one: backslash + _escaped(one)[1:], text).encode()


def canonical(name: str) -> str:
    """One spelling for all of a name, to compare it by."""
    return unicodedata.normalize('NFC', printable(name))


class ByName(Mapping[str, _Value]):
    """A mapping that knows names however they are spelled.

    The very name comes first, so that a folder may have two that look alike.
    """

    def __init__(self, given: Mapping[str, _Value]):
        self._given = given

    def __getitem__(self, name: str) -> _Value:
        spelled = self.spelling(name)
        if spelled is None:
            raise KeyError(name)
        return self._given[spelled]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def spelling(self, name: str) -> str | None:
        """How the mapping itself spells a name; None if it has none like it."""
        return name if name in self._given else self._spelled.get(canonical(name))

    @functools.cached_property
    def _spelled(self):
        return {canonical(name): name for name in self._given}


def find(path: str | os.PathLike) -> str:
    """The path as the disk spells it; as it is, where nothing is of that name."""
    path = os.fspath(path)
    if (path.isascii() and _ESCAPE not in path) or os.path.lexists(path):
        return path
    # As Python calls it here: names on disk are bytes, nearly always UTF-8, also where
    # the locale is another, such as C.
    path = os.fsdecode(path.encode('utf-8', 'surrogateescape'))
    folder, name = os.path.split(path)
    if not name or folder == path:
        return path
    folder = find(folder)
    try:
        present = ByName(dict.fromkeys(os.listdir(folder or '.')))
    except OSError:
        return path
    return os.path.join(folder, present.spelling(name) or name)


def _escaped(match):
    code = ord(match[0])
    if code <= 0xFF:
        return f'{_ESCAPE}{code:02x}'
    if _FIRST <= code <= _LAST:
        return f'{_ESCAPE}{code - _OFFSET:02x}'
    return f'\\u{code:04x}'
