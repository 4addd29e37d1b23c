"""Tells why a checkpoint cannot be read: it is damaged, or the system fails."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sicnn_jax.errors import CheckpointError

__all__ = ['DamagedError', 'brief', 'reading']

# Messages of TensorStore, which has no OSError, about the system and not the content.
_SYSTEM = re.compile(
    r'\[OS error (?P<errno>\d+)|\b(PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE'
    r'|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|ABORTED|CANCELLED):'
)
_GONE = (errno.ENOENT, errno.ENOTDIR)


class DamagedError(CheckpointError):
    """A checkpoint was read, but is cut short, changed, or cannot be decoded."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns errors of Orbax and the layers below into one that names the checkpoint.

    Errors with other causes, such as a lack of memory, pass unchanged.

    Raises:
      DamagedError: the checkpoint is damaged.
      CheckpointError: the system cannot read it, whatever its content.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, ValueError, LookupError, EOFError) as error:
        reason = _system_error(path, error)
        if reason is None:
            raise DamagedError(f'{path} is damaged: {brief(error)}') from error
        raise CheckpointError(
            f'{path} cannot be read: {brief(reason)}. It is left as it is: correct '
            'that and give the same command.'
        ) from error


def _system_error(path, error):
    """The system's error that kept a checkpoint from being read; None without one.

    Orbax mistakes an unreadable file for a missing one, so all files are tried.
    """
    if isinstance(error, OSError) and error.errno not in (None, *_GONE):
        return error
    said = _SYSTEM.search(str(error))
    if said and int(said['errno'] or 0) not in _GONE:
        return error
    try:
        _read_all(path)
    except OSError as other:
        return other
    return None


def _read_all(path):
    """Reads the existing files of a checkpoint; raises the first error."""
    for directory, _, files in os.walk(path, onerror=_raise_unless_gone):
        for name in files:
            try:
                with open(os.path.join(directory, name), 'rb') as file:
                    while file.read(2**20):
                        pass
            except OSError as error:
                _raise_unless_gone(error)


def _raise_unless_gone(error):
    if error.errno not in _GONE:
        raise error


def brief(error: BaseException) -> str:
    """An error's text, without the locations in TensorStore's source."""
    return str(error).partition(' [source locations')[0]
