"""Errors that several parts of the package raise, and system errors in words."""

import errno
import os

__all__ = ['CheckpointError', 'of_system']

_PERMISSION = 'choose a place where you may read and write'
_SPACE = 'free some space'
_DISK = 'check the disk, or the source of its mount, and give the command again'
# The remedy for each error of the system.
_REMEDIES = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _PERMISSION,
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EIO: _DISK,
    errno.ENODEV: _DISK,
    errno.ENXIO: _DISK,
    errno.ESTALE: _DISK,
    errno.ENOTCONN: _DISK,
    errno.EHOSTDOWN: _DISK,
    errno.ETIMEDOUT: _DISK,
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
    """The system's error and a remedy, in one line; None for other errors.

    It concerns a file, a port, a device, or memory.
    """
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
    files = [file for file in (error.filename, error.filename2) if file is not None]
    where = ' → '.join(map(os.fsdecode, filter(_is_path, files)))
    said = f'{where}: {error.strerror}' if where else error.strerror
    remedy = _REMEDIES.get(error.errno)
    return f'{said}: {remedy}' if remedy else said


def _is_path(file):
    # From `open`, it may be a number.
    return isinstance(file, str | bytes | os.PathLike)


def _is_of(error, package, kinds):
    kind = type(error)
    return kind.__module__.split('.')[0] == package and kind.__name__ in kinds


def _is_of_devices(error):
    if isinstance(error, RuntimeError):
        return 'Unable to initialize backend' in str(error)
    if not isinstance(error, AssertionError) or error.__traceback__ is None:
        return False
    last = error.__traceback__
    while last.tb_next:
        last = last.tb_next
    return last.tb_frame.f_code.co_filename.endswith(_STARTS_DEVICES)
