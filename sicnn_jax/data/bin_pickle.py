"""Reads the pickles of `.bin` verification sets without running functions they name.

A pickle may call any function that it names. Here the few names that such files need
(NumPy's, and `_codecs.encode`) lead to functions of this module, which know bytes,
booleans and integers. NumPy's own functions trust senseless shapes and types, and so
return uninitialised memory or crash the process.
"""

import io
import math
import os
import pickle
import re
from typing import Any

import numpy as np

from sicnn_jax.data.records import DatasetError

# The methods that stand for the names in pickles of NumPy's arrays and numbers; before
# NumPy 2, `numpy._core` is `numpy.core`.
_NAMES = {
    '_codecs.encode': '_encode',
    'numpy.ndarray': '_ndarray',
    'numpy.dtype': '_dtype',
    'numpy.core.multiarray._reconstruct': '_reconstruct',
    'numpy.core.multiarray.scalar': '_scalar',
    'numpy.core.numeric._frombuffer': '_frombuffer',
    'numpy._core.multiarray._reconstruct': '_reconstruct',
    'numpy._core.multiarray.scalar': '_scalar',
    'numpy._core.numeric._frombuffer': '_frombuffer',
}
# Booleans, integers, objects.
_TYPES = re.compile(r'b1|[iu][1248]|O8?', re.ASCII)


def load(file: io.BufferedIOBase, path: str | os.PathLike) -> Any:
    """The content of a pickle; errors name its path.

    Returns:
      Lists, tuples, dicts, bytes, texts and numbers; in place of arrays, objects that
      `plain` turns into arrays.

    Raises:
      DatasetError: the pickle names any other function.
      Exception: it is damaged, which raises nearly any error: EOFError, ValueError, …
    """
    return _Unpickler(file, path).load()


def plain(value: Any) -> Any:
    """A value as it is; for an array, an `np.ndarray` of booleans or integers, or a
    list of objects. Raises AttributeError for an array that was made without content.
    """
    return value.array if isinstance(value, _Array) else value


class _Type:
    """Stands for a `dtype`."""

    __slots__ = ('name', 'order')

    def __init__(self, name: bytes | str) -> None:
        self.name = _text(name)
        self.order = '='
        if not _TYPES.fullmatch(self.name):
            raise ValueError(f'an array of {self.name!r}')

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        if order not in ('|', '<', '>', '='):
            raise ValueError(f'the byte order {order!r}')
        self.order = order

    def array(self, data, shape, fortran):
        """An array of exactly this data; raises an error if it does not fit."""
        shape = tuple(shape)
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f'an array of the shape {shape}')
        if self.name.startswith('O'):
            if not isinstance(data, list) or shape != (len(data),):
                raise ValueError(f'objects of the shape {shape}')
            return data
        dtype = np.dtype(self.order + self.name)
        if not isinstance(data, bytes | bytearray):
            raise ValueError(f'an array of {type(data).__name__}')
        if len(data) != dtype.itemsize * math.prod(shape):
            raise ValueError(f'{len(data)} bytes for the shape {shape}')
        flat = np.frombuffer(bytes(data), dtype) if data else np.empty(0, dtype)
        return flat.reshape(shape, order='F' if fortran else 'C')


class _Array:
    """Stands for an array, which gets its content after it is made."""

    __slots__ = ('array',)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self.array = _type(kind).array(data, shape, fortran)


class _Unpickler(pickle.Unpickler):
    """It gives out only its bound methods, which a pickle cannot change."""

    def __init__(self, file: io.BufferedIOBase, path: str | os.PathLike):
        # Strings are read as bytes: files from Python 2 hold images as its `str`.
        super().__init__(file, encoding='bytes')
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if f'{module}.{name}' in _NAMES:
            return getattr(self, _NAMES[f'{module}.{name}'])
        raise DatasetError(
            f'{self._path} asks for {module}.{name}, which no verification set needs: '
            'it may be malicious, and none of it was run. Get the file elsewhere.'
        )

    def _encode(self, text, encoding):
        """Python 3 writes bytes in this way for Python 2 to read."""
        if encoding not in ('latin1', 'latin-1'):
            raise ValueError(f'bytes in the encoding {encoding!r}')
        return text.encode('latin1')

    def _ndarray(self):
        raise ValueError('an array without content')

    def _dtype(self, name, *_):
        return _Type(name)

    def _reconstruct(self, *_):
        return _Array()

    def _scalar(self, kind, data):
        return _type(kind).array(data, (), False).item()

    def _frombuffer(self, data, kind, shape, order):
        made = _Array()
        made.array = _type(kind).array(data, shape, _text(order) == 'F')
        return made


def _type(kind):
    if not isinstance(kind, _Type):
        raise ValueError(f'an array of {type(kind).__name__}')
    return kind


def _text(value):
    """A text, which is bytes in pickles of Python 2."""
    return value.decode('ascii') if isinstance(value, bytes) else str(value)
