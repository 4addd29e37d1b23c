"""Locks a directory, so that only one run at a time writes to it.

The lock is the system's (`flock`): it ends with the process that holds it, however that
ends. The content of the lock file only names that process.
"""

import contextlib
import datetime
import functools
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

try:
    import fcntl
except ImportError:  # Windows has none.
    fcntl = None  # type: ignore[assignment]

__all__ = ['FILE', 'InUseError', 'hold', 'one_at_a_time']

P = ParamSpec('P')
R = TypeVar('R')

FILE = '.lock'


class InUseError(ValueError):
    """Another run is writing to the directory."""


@contextlib.contextmanager
def hold(directory: Path) -> Iterator[None]:
    """Locks a directory against other processes until the end of the block.

    If the file system has no locks, it prints a warning and continues without one.

    Args:
      directory: created if missing. The file `.lock` is in it while the block runs; one
        that a crash leaves there blocks nobody.

    Raises:
      InUseError: another process holds the lock; the message says which process, on
        which host and since when.
      ValueError: the directory is a file.
    """
    path = directory / FILE
    if directory.is_file():
        raise ValueError(f'{directory} is a file; expected a directory.')
    made = [each for each in path.parents if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    file = _open_locked(path)
    try:
        _warn_of_another_host(file, directory)
        _write_owner(file)
        yield
    finally:
        # Removed before it is released: a process that opened it meanwhile notices.
        with contextlib.suppress(OSError):
            if _is_at(path, file):
                path.unlink()
        file.close()
        # Removes the directory if it stayed empty.
        with contextlib.suppress(OSError):
            for each in made:
                each.rmdir()


def one_at_a_time(
    directory: Callable[P, str | os.PathLike],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function `hold` a directory, given by its arguments, while it runs."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def alone(*args: P.args, **kwargs: P.kwargs) -> R:
            with hold(Path(directory(*args, **kwargs))):
                return function(*args, **kwargs)

        return alone

    return decorate


def _open_locked(path):
    while True:
        file = path.open('a+', encoding='utf-8')
        try:
            _lock(file, path.parent)
        except BlockingIOError as error:
            with file:
                by = _said(_read_owner(file))
                raise InUseError(
                    f'{path.parent} is in use by another run{by}. Wait for its end, '
                    'stop it, or give this one another directory.'
                ) from error
        except BaseException:
            file.close()
            raise
        # Its last holder may have removed the file after it was opened here.
        if _is_at(path, file):
            return file
        file.close()


def _lock(file, directory):
    why: str | None = 'this system has no flock'
    if fcntl is not None:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        # Locks are not supported, not implemented, or used up.
        except OSError as error:
            why = error.strerror
    _warn(
        f'{directory} cannot be locked ({why}): do not start a second run in it while '
        'this one runs.'
    )


def _is_at(path, file):
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _warn(message):
    print(message, file=sys.stderr, flush=True)


def _warn_of_another_host(file, directory):
    """Warns of an owner on another host: some network file systems lock per host."""
    owner = _read_owner(file)
    if owner and owner.get('host') != platform.node():
        _warn(
            f'{directory} was in use by a run that did not say it ended'
            f'{_said(owner)}. If it still runs, stop one of the two: not every network '
            'file system has locks that other hosts see.'
        )


def _write_owner(file: IO[str]) -> None:
    owner = {
        'host': platform.node(),
        'pid': os.getpid(),
        'since': datetime.datetime.now().astimezone().isoformat(timespec='seconds'),
    }
    file.truncate(0)
    file.write(json.dumps(owner))
    file.flush()


def _read_owner(file: IO[str]) -> dict[str, Any]:
    """The process that holds the lock, or held it last; empty if unknown."""
    file.seek(0)
    with contextlib.suppress(ValueError):
        owner = json.loads(file.read())
        return owner if isinstance(owner, dict) else {}
    return {}


def _said(owner):
    if not owner:
        return ''
    pid, host, since = (owner.get(field) for field in ('pid', 'host', 'since'))
    return f': process {pid} on {host}, since {since}'
