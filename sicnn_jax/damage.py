"""Why a checkpoint cannot be read: it is damaged, or the system fails."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sicnn_jax.errors import CheckpointError

__all__ = ['DamagedError', 'brief', 'reading']

# What TensorStore, which has no OSError, says of the system and not of the content.
_SYSTEM = re.compile(
    r'\[OS error (?P<errno>\d+)|\b(PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE'
    r'|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|ABORTED|CANCELLED):'
)
_GONE = (errno.ENOENT, errno.ENOTDIR)


class DamagedError(CheckpointError):
    """A checkpoint was read, and is cut short, changed, or cannot be decoded."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What Orbax and what is below it raise, as an error that names the checkpoint.

    Errors of other kinds, such as want of memory, are not of it and pass.

    Raises:
      DamagedError: it is damaged.
      CheckpointError: the system cannot read it, whatever is in it.
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
            f'{path} cannot be read: {brief(reason)}. It is left as it is: mend that '
            'and give the same command.'
        ) from error


def _system_error(path, error):
    """The error of the system that kept a checkpoint from being read; None if none.

    Orbax takes a file that it may not look at for one that is not there, so all files
    are tried.
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
    """Reads what is there of a checkpoint; raises what keeps it from being read."""
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
    """An error's text, without where in its source TensorStore was."""
    return str(error).partition(' [source locations')[0]
