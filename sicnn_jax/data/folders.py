"""Which files of a folder are pictures; what else lies there is counted by reason.

All commands find pictures by this, so that whatever a folder can hold means the same to
all of them, on every machine. docs/data.md has it as a table.
"""

import collections
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sicnn_jax import lock
from sicnn_jax.data import image_files
from sicnn_jax.names import find, printable

# Pictures, whatever the machine's table of MIME types has.
SUFFIXES = frozenset(
    (
        *('.apng', '.avif', '.bmp', '.gif', '.heic', '.heif', '.hif', '.jfif', '.jpe'),
        *('.jpeg', '.jpg', '.mpo', '.pbm', '.pgm', '.png', '.pnm', '.ppm', '.tif'),
        *('.tiff', '.webp'),
    )
)
# What systems put beside pictures, without a point in front: thumbnails of Synology,
# the other half of files in an archive of macOS, what was deleted on Windows.
_OF_SYSTEMS = frozenset(('@eaDir', '__MACOSX', '$RECYCLE.BIN'))
# Of one reason: names that a report has, reasons that a line has.
_EXAMPLES, _REASONS = 20, 8
_LONGEST_SUFFIX = 12

HIDDEN = 'hidden'
UNLISTED = 'folders that cannot be listed'
_LOOP = 'links in a circle'
_NO_FILE = 'pipes or devices'
_NO_PICTURE = 'without a suffix and no picture'
_NONE: Mapping[str, str] = MappingProxyType({})


class PassedOver:
    """What is left out, by reason.

    Attributes:
      counts: how often, by reason.
      examples: the first paths of each reason.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, path: str, reason: str) -> None:
        """Counts a file, or a folder with all that is in it."""
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(printable(path))

    def __str__(self) -> str:
        return in_words(self.counts)

    def report(self) -> dict[str, Any]:
        """What a report has of it."""
        return {
            'passed_over': dict(self.counts.most_common()),
            'passed_over_examples': self.examples,
        }


def in_words(counts: Mapping[str, int]) -> str:
    """As the end of a sentence: `; passed over: 3 named .txt`, or nothing."""
    most = sorted(counts.items(), key=lambda item: -item[1])[:_REASONS]
    parts = [f'{count:,} {reason}' for reason, count in most]
    if len(counts) > len(most):
        others = sum(counts.values()) - sum(count for _, count in most)
        parts.append(f'{others:,} for other reasons')
    return f'; passed over: {", ".join(parts)}' if parts else ''


def walk(
    root: str | os.PathLike,
    passed_over: PassedOver,
    skip: Mapping[str, str] = _NONE,
) -> Iterator[str]:
    """The pictures below a folder, in it first and then in each folder of it.

    Links are followed. The folder itself may be hidden or a link.

    Args:
      root: the folder.
      passed_over: counts what is left out.
      skip: why a file or folder below it is left out, by its real path.

    Yields:
      Paths relative to the folder, with /, as the system has them: not all can be
      printed.
    """
    # Folders to come, with those that each lies in: a link may lead back to one.
    coming: list[tuple[str, frozenset]] = [('', frozenset())]
    while coming:
        relative, above = coming.pop()
        here = _identity(os.path.join(root, relative))
        if here in above:
            passed_over.add(relative.rstrip('/'), _LOOP)
            continue
        pictures, folders = scan(root, passed_over, relative, skip)
        yield from pictures
        inside = above | {here} if here else above
        coming += [(f'{folder}/', inside) for folder in reversed(folders)]


def scan(
    root: str | os.PathLike,
    passed_over: PassedOver,
    relative: str = '',
    skip: Mapping[str, str] = _NONE,
) -> tuple[list[str], list[str]]:
    """What lies in one folder.

    Args:
      root: which paths are relative to.
      passed_over: counts what is left out.
      relative: the folder below it, ending in /.
      skip: as of `walk`.

    Returns:
      Sorted paths of pictures and of folders.
    """
    pictures, folders = [], []
    try:
        with os.scandir(os.path.join(root, relative)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        passed_over.add(relative.rstrip('/') or os.fspath(root), UNLISTED)
        return [], []
    for entry in found:
        # Of the run that walks, or of another: nothing of the user's.
        if entry.name == lock.FILE:
            continue
        path = relative + entry.name
        reason = _hidden(entry.name)
        if not reason and skip:
            reason = skip.get(os.path.realpath(entry.path), '')
        if not reason and _is_folder(entry):
            folders.append(path)
            continue
        reason = reason or _no_picture(entry)
        if reason:
            passed_over.add(path, reason)
        else:
            pictures.append(path)
    return pictures, folders


def beside(path: str | os.PathLike) -> str | None:
    """The file of a path, or a picture that only another suffix tells from it.

    None where there is none, or no folder where it should lie.
    """
    path = find(path)
    if os.path.isfile(path):
        return path
    # Not by what the folder lists: it may hold as many files as are asked for.
    start = stem(path)
    named = (
        start + spelt
        for suffix in sorted(SUFFIXES)
        for spelt in (suffix, suffix.upper())
    )
    return next((found for found in map(find, named) if os.path.isfile(found)), None)


def stem(path: str) -> str:
    """A path without what names it a picture."""
    start, suffix = os.path.splitext(path)
    return start if suffix.lower() in SUFFIXES else path


def _hidden(name):
    return HIDDEN if name.startswith('.') or name in _OF_SYSTEMS else ''


def _is_folder(entry):
    # A link may lead anywhere, also to itself.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _no_picture(entry):
    """Why what is no folder is no picture either; empty if it is one.

    A link that leads nowhere counts by its name: reading it says so.
    """
    if not entry.is_symlink():
        file = entry.is_file()
    else:
        file = os.path.isfile(entry.path) or not os.path.exists(entry.path)
    if not file:
        # Reading a pipe would wait for ever.
        return _NO_FILE
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in SUFFIXES:
        return ''
    # Numbers say nothing: `face.12`.
    if not any(character.isalpha() for character in suffix):
        return '' if image_files.is_image(entry.path) else _NO_PICTURE
    plain = suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= _LONGEST_SUFFIX
    return f'named {suffix}' if plain else 'named otherwise'


def _identity(folder):
    """What a folder is however it is reached; None where the system does not say."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None
