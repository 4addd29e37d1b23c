"""Errors that several parts of the package raise, and system errors in words."""

import errno
import os
import traceback

__all__ = ['CheckpointError', 'of_system']

_PERMISSION = 'choose a place where you may read and write'
_DISK = 'check the disk, or the source of its mount, and give the command again'
# The remedy for each error of the system.
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _PERMISSION),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), 'free some space'),
    **dict.fromkeys((errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE), _DISK),
    **dict.fromkeys((errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT), _DISK),
    errno.ENOENT: 'is it spelled as it is on disk?',
    errno.EEXIST: 'choose another name, or remove the existing one',
    errno.EISDIR: 'give a file',
    errno.ENOTDIR: 'a part of that path is a file; give a directory',
    errno.ENAMETOOLONG: 'choose shorter names',
    errno.EMFILE: 'allow more by ulimit -n',
    errno.ENFILE: 'close other programs',
    errno.ENOMEM: 'close other programs, or let this one process less at once',
    errno.EADDRINUSE: 'choose another port',
}
# TensorFlow's errors that are not the fault of a program.
_TENSORFLOW = (
    *('FailedPreconditionError', 'NotFoundError', 'PermissionDeniedError'),
    *('ResourceExhaustedError', 'UnavailableError'),
)
# JAX's file that starts devices. It also asserts that there are some.
_STARTS_DEVICES = os.path.join('jax', '_src', 'xla_bridge.py')


class CheckpointError(ValueError):
    """A checkpoint or a network is missing, damaged, or follows other conventions."""


def of_system(error: BaseException) -> str | None:
    """A file, port, device or memory error with a remedy, in one line; else None."""
    if isinstance(error, OSError):
        words = _of_file(error)
    elif isinstance(error, MemoryError):
        words = f'memory ran out ({error}): {_REMEDIES[errno.ENOMEM]}'
    elif _is_of(error, 'tensorflow', _TENSORFLOW):
        words = str(error)
    elif _is_of(error, 'jax', ('JaxRuntimeError',)) and 'RESOURCE_EXH' in str(error):
        words = (
            f'the memory of the device ran out ({error}): smaller batches need less, '
            'and in training config.STAGE.microbatches'
        )
    elif _is_of_devices(error):
        words = f'the devices do not start: {str(error) or "there are none"}'
        if asked := os.environ.get('JAX_PLATFORMS'):
            words += (
                f'. JAX_PLATFORMS={asked} asks for them: install JAX for them (see '
                'docs/scale_out.md), unset it or set it to cpu'
            )
    else:
        return None
    return ' '.join(words.split())


def _of_file(error):
    if error.errno is None or error.strerror is None:
        return str(error) or type(error).__name__
    # From `open`, a name may be a number.
    files = [
        os.fsdecode(file)
        for file in (error.filename, error.filename2)
        if isinstance(file, str | bytes | os.PathLike)
    ]
    where = ' → '.join(files)
    said = f'{where}: {error.strerror}' if where else error.strerror
    remedy = _REMEDIES.get(error.errno)
    return f'{said}: {remedy}' if remedy else said


def _is_of(error, package, kinds):
    kind = type(error)
    return kind.__module__.split('.')[0] == package and kind.__name__ in kinds


def _is_of_devices(error):
    if isinstance(error, RuntimeError):
        return 'Unable to initialize backend' in str(error)
    if not isinstance(error, AssertionError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.endswith(_STARTS_DEVICES)
