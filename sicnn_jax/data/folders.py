"""Finds the pictures of a folder, and counts everything else by reason.

All commands find pictures with this module, so that the content of a folder means the
same to each of them, on every machine. docs/data.md has the rules as a table.
"""

import collections
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sicnn_jax import lock
from sicnn_jax.data import image_files
from sicnn_jax.names import find, printable

# Suffixes of pictures; the machine's table of MIME types does not matter.
SUFFIXES = frozenset(
    (
        *('.apng', '.avif', '.bmp', '.gif', '.heic', '.heif', '.hif', '.jfif', '.jpe'),
        *('.jpeg', '.jpg', '.mpo', '.pbm', '.pgm', '.png', '.pnm', '.ppm', '.tif'),
        *('.tiff', '.webp'),
    )
)
# Folders that systems add without a leading dot: Synology's thumbnails, the resource
# forks in archives of macOS, deleted files on Windows.
_OF_SYSTEMS = frozenset(('@eaDir', '__MACOSX', '$RECYCLE.BIN'))
# The most example names per reason in a report, and the most reasons in a line.
_EXAMPLES, _REASONS = 20, 8
_LONGEST_SUFFIX = 12

HIDDEN = 'hidden'
UNLISTED = 'folders that cannot be listed'
_LOOP = 'links in a circle'
_NO_FILE = 'pipes or devices'
_NO_PICTURE = 'without a suffix and no picture'
_NONE: Mapping[str, str] = MappingProxyType({})


class PassedOver:
    """Files and folders left out, by reason.

    Attributes:
      counts: how many, by reason.
      examples: the first paths for each reason.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, path: str, reason: str) -> None:
        """Counts a file, or a folder with everything in it."""
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(printable(path))

    def __str__(self) -> str:
        return in_words(self.counts)

    def report(self) -> dict[str, Any]:
        """Its entry in a report."""
        return {
            'passed_over': dict(self.counts.most_common()),
            'passed_over_examples': self.examples,
        }


def in_words(counts: Mapping[str, int]) -> str:
    """The end of a sentence: `; passed over: 3 named .txt`, or nothing."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    parts = [f'{count:,} {reason}' for reason, count in ordered[:_REASONS]]
    if others := ordered[_REASONS:]:
        parts.append(f'{sum(count for _, count in others):,} for other reasons')
    return f'; passed over: {", ".join(parts)}' if parts else ''


def walk(
    root: str | os.PathLike,
    passed_over: PassedOver,
    skip: Mapping[str, str] = _NONE,
) -> Iterator[str]:
    """The pictures of a folder, then those of each folder in it.

    Links are followed. The folder itself may be hidden or a link.

    Args:
      root: the folder.
      passed_over: counts what is left out.
      skip: why a file or folder below it is left out, by its real path.

    Yields:
      Paths relative to the folder, with /, as the system has them; some cannot be
      printed.
    """
    # Folders to visit, each with the folders around it: a link may lead back to one.
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
    """The pictures and folders in one folder.

    Args:
      root: the folder that paths are relative to.
      passed_over: counts what is left out.
      relative: the folder below it, ending in /.
      skip: as in `walk`.

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
        # A lock of this or another run, not a file of the user's.
        if entry.name == lock.FILE:
            continue
        path = relative + entry.name
        hidden = entry.name.startswith('.') or entry.name in _OF_SYSTEMS
        reason = HIDDEN if hidden else ''
        if not reason and skip:
            reason = skip.get(os.path.realpath(entry.path), '')
        if not reason and _is_folder(entry):
            folders.append(path)
            continue
        if reason := reason or _no_picture(entry):
            passed_over.add(path, reason)
        else:
            pictures.append(path)
    return pictures, folders


def beside(path: str | os.PathLike) -> str | None:
    """The file of a path, or a picture that differs from it only in its suffix.

    None if there is neither, or if its folder does not exist.
    """
    path = find(path)
    if os.path.isfile(path):
        return path
    # The folder is not listed: it may hold as many files as there are requests.
    start = stem(path)
    named = (start + end for each in sorted(SUFFIXES) for end in (each, each.upper()))
    return next((found for found in map(find, named) if os.path.isfile(found)), None)


def stem(path: str) -> str:
    """A path without the suffix of a picture."""
    start, suffix = os.path.splitext(path)
    return start if suffix.lower() in SUFFIXES else path


def _is_folder(entry):
    # A link may lead anywhere, even to itself.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _no_picture(entry):
    """The reason why a file is not a picture; '' if it is one.

    A link that leads nowhere counts by its name: reading it raises the error.
    """
    if not entry.is_symlink():
        file = entry.is_file()
    else:
        file = os.path.isfile(entry.path) or not os.path.exists(entry.path)
    if not file:
        # Reading a pipe would wait forever.
        return _NO_FILE
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in SUFFIXES:
        return ''
    # A number is not a suffix: `face.12`.
    if not any(character.isalpha() for character in suffix):
        return '' if image_files.is_image(entry.path) else _NO_PICTURE
    plain = suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= _LONGEST_SUFFIX
    return f'named {suffix}' if plain else 'named otherwise'


def _identity(folder):
    """Identifies a folder, however it is reached; None if the system cannot."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None
