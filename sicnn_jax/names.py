"""Names of files as text.

A name on disk is bytes. It may not be UTF-8, for example in old archives; then Python
uses surrogates, which text files, records and terminals reject. And it may be spelled
differently from where it is mentioned: macOS splits `é` into two characters.
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
# The offset from a byte to its surrogate, and the first and last surrogate.
_OFFSET, _FIRST, _LAST = 0xDC00, 0xDC80, 0xDCFF
_SURROGATES = re.compile('[\ud800-\udfff]')
_UNPRINTABLE = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_ESCAPE = '\\x'


def printable(name: str) -> str:
    r"""A name in one line of UTF-8: `caf\xe9.png` where the é is a byte of Latin-1."""
    # In a locale such as C, Python uses surrogates for everything except ASCII.
    with contextlib.suppress(UnicodeError):
        name = name.encode(errors='surrogateescape').decode(errors='surrogateescape')
    return _UNPRINTABLE.sub(_escaped, name)


def encode(text: str, backslash: str = '\\') -> bytes:
    """A text in UTF-8, in which names are `printable`.

    `backslash` is how the text writes a backslash: JSON writes two.
    """
    return _SURROGATES.sub(lambda one: backslash + _escaped(one)[1:], text).encode()


def canonical(name: str) -> str:
    """One spelling for all spellings of a name, to compare names by."""
    return unicodedata.normalize('NFC', printable(name))


class ByName(Mapping[str, _Value]):
    """A mapping that knows names however they are spelled.

    An exact match comes first, so that a folder may have two names that look alike.
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
        """The mapping's own spelling of a name; None if it has no such name."""
        return name if name in self._given else self._spelled.get(canonical(name))

    @functools.cached_property
    def _spelled(self):
        return {canonical(name): name for name in self._given}


def find(path: str | os.PathLike) -> str:
    """The path as spelled on the disk; unchanged if nothing has that name."""
    path = os.fspath(path)
    if (path.isascii() and _ESCAPE not in path) or os.path.lexists(path):
        return path
    # Python's name for it here: names on disk are bytes, nearly always UTF-8, even if
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
