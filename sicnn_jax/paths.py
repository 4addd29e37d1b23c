"""Reads paths as users write them in flags, configs and arguments of the library."""

import itertools
import os
import re
from pathlib import Path

from sicnn_jax import names

__all__ = [
    'PathError',
    'check_writable',
    'expand',
    'free',
    'in_utf8',
    'is_address',
    'local',
]

# `pathlib` merges two slashes into one. A single letter would be a drive.
_ADDRESS = re.compile(r'([A-Za-z][A-Za-z0-9+.-]+):(/+)')
# The programs that mount these as directories.
_MOUNTED_BY = {'gs': 'gcsfuse', 's3': 'mount-s3'}


class PathError(ValueError):
    """A path cannot exist on this machine."""


def local(path: str | os.PathLike) -> Path:
    """A path of this machine, read as in `expand`.

    Applied to its own result, it returns the same path.

    Raises:
      PathError: as `expand`.
    """
    found = Path(expand(path))
    # `./~` is a name like others, but pathlib drops the `./`.
    return found.absolute() if str(found).startswith('~') else found


def expand(path: str | os.PathLike) -> str:
    """A path with `~` replaced by the home directory, and `~NAME` by that user's.

    Shells do not expand `--flag=~/x`. A name that begins with `~` and exists, or is
    written as `./~NAME`, is left as it is.

    Args:
      path: a path, or a word that a flag takes instead of one, which stays as it is.

    Raises:
      PathError: it is the address of a bucket or a web page, which would become a
        folder of the working directory; or the home of an unknown user.
    """
    text = os.fspath(path)
    if is_address(text):
        raise PathError(f'{text} is not a path on this machine: {_remedy(text)}')
    if not text.startswith('~'):
        return text
    expanded = os.path.expanduser(text)
    name = text.partition('/')[0]
    if expanded == text and not os.path.lexists(name):
        whose = f'no user {name[1:]!r} is known here' if name[1:] else 'HOME is not set'
        raise PathError(f'{text}: {whose}; for a file of that name write ./{text}')
    return expanded


def in_utf8(path: Path) -> Path:
    """The path, if TensorFlow and Orbax, which write and read there, can open it.

    Raises:
      PathError: it has a name that is not UTF-8.
    """
    whole = str(path.absolute())
    try:
        whole.encode()
    except UnicodeEncodeError as error:
        raise PathError(
            f'{names.printable(whole)} has a name that is not UTF-8, so neither data '
            'sets nor checkpoints can be there: rename it, or make a link to it by '
            'ln -s and give that.'
        ) from error
    return path


def is_address(text: str) -> bool:
    """Whether a text is an address such as `gs://bucket/x`, not a file name."""
    address = _ADDRESS.match(text)
    if not address:
        return False
    # With one slash, it may be a folder, although a strange one.
    return address[2] != '/' or not os.path.isdir(f'{address[1]}:')


def check_writable(directory: Path, remedy: str = 'choose another directory') -> None:
    """Makes a directory, and checks that files can be written into it.

    Otherwise the error would come only after hours of computing.

    Raises:
      PathError: they cannot be written; the message ends with the remedy.
    """
    # Permissions are not enough: root needs none, and disks may be mounted read-only.
    trial = directory / f'.{os.getpid()}.unfinished'
    try:
        directory.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise PathError(
            f'{directory} takes no files ({error.strerror}): {remedy}.'
        ) from error


def free(path: Path) -> Path:
    """This path or, if it exists, one like it with a number."""
    others = (path.with_name(f'{path.name}-{i}') for i in itertools.count(2))
    return next(each for each in itertools.chain([path], others) if not each.exists())


def _remedy(text):
    scheme, _, rest = text.partition(':')
    scheme = scheme.lower()
    if scheme == 'file':
        return f'write /{rest.lstrip("/")}'
    if scheme in ('http', 'https', 'ftp'):
        return 'download it and give the path of the file'
    tool = f' ({_MOUNTED_BY[scheme]})' if scheme in _MOUNTED_BY else ''
    return (
        f'mount the bucket{tool} and give the directory where it is, or work on a copy '
        'and copy the results'
    )
