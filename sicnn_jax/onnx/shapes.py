"""Operators of ONNX that move numbers, and that compute where to move them.

Each takes known values and values of JAX (`values.py`). Some inputs of an operator's
newer versions are attributes of the same name in older ones.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sicnn_jax.onnx.values import Value, integers, is_known, module_of

# By number of TensorProto.DataType. Floating values are float32 when they are known,
# and have the image's dtype when they depend on the image.
_DTYPES = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float32,
    11: np.float32,
    12: np.uint32,
    13: np.uint64,
    16: np.float32,
}


def shape(x: Value, *, start: int = 0, end: int | None = None) -> np.ndarray:
    """ONNX's Shape; it is known, whatever x is."""
    return np.asarray(x.shape[start:end], np.int64)


def reshape(x: Value, target: Value, *, allowzero: int = 0) -> Value:
    """ONNX's Reshape. A shape for several faces becomes one for a single face."""
    sizes = list(integers(target))
    if not allowzero:
        sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
    faces, rest = divmod(math.prod(sizes), max(1, x.size))
    if not is_known(x) and -1 not in sizes and faces > 1 and not rest:
        first, rest = divmod(sizes[0], faces)
        sizes[0] = sizes[0] if rest else first
    return x.reshape(sizes)


def flatten(x: Value, *, axis: int = 1) -> Value:
    """ONNX's Flatten."""
    return x.reshape(math.prod(x.shape[:axis]), -1)


def squeeze(
    x: Value, given: Value | None = None, *, axes: Sequence[int] | None = None
) -> Value:
    """ONNX's Squeeze. Without axes, the batch axis stays, although it is 1 here."""
    along = _either(axes, given)
    if along is None:
        first = 0 if is_known(x) else 1
        along = tuple(axis for axis in range(first, x.ndim) if x.shape[axis] == 1)
    return x.squeeze(along)


def unsqueeze(
    x: Value, given: Value | None = None, *, axes: Sequence[int] | None = None
) -> Value:
    """ONNX's Unsqueeze."""
    return module_of(x).expand_dims(x, _either(axes, given))


def transpose(x: Value, *, perm: Sequence[int] | None = None) -> Value:
    """ONNX's Transpose."""
    return x.transpose(perm)


def concat(*parts: Value, axis: int) -> Value:
    """ONNX's Concat."""
    return module_of(*parts).concatenate(parts, axis=axis)


def gather(x: Value, indices: Value, *, axis: int = 0) -> Value:
    """ONNX's Gather."""
    return module_of(x, indices).take(x, indices, axis=axis)


def slice_(
    x: Value,
    starts: Value | Sequence[int] = (),
    ends: Value | Sequence[int] = (),
    axes: Value | Sequence[int] | None = None,
    steps: Value | None = None,
) -> Value:
    """ONNX's Slice, by inputs or attributes."""
    begin, end = integers(starts), integers(ends)
    along = range(len(begin)) if axes is None else integers(axes)
    by = [1] * len(begin) if steps is None else integers(steps)
    parts = [slice(None)] * x.ndim
    for axis, *numbers in zip(along, begin, end, by, strict=True):
        parts[axis] = slice(*numbers)
    return x[tuple(parts)]


def pad(
    x: Value,
    given: Value | None = None,
    number: Value | None = None,
    axes: Value | None = None,
    *,
    mode: str = 'constant',
    pads: Sequence[int] | None = None,
    value: float = 0.0,
) -> Value:
    """ONNX's Pad. Negative numbers crop."""
    if mode not in ('constant', 'reflect', 'edge'):
        raise ValueError(f'mode is {mode!r}; expected constant, reflect or edge.')
    sizes = _either(pads, given)
    along = range(x.ndim) if axes is None else integers(axes)
    margins = [(0, 0)] * x.ndim
    befores, afters = sizes[: len(along)], sizes[len(along) :]
    for axis, *margin in zip(along, befores, afters, strict=True):
        margins[axis] = tuple(margin)
    x = x[tuple(slice(max(0, -low), min(0, high) or None) for low, high in margins)]
    margins = [(max(0, low), max(0, high)) for low, high in margins]
    if mode != 'constant':
        return module_of(x).pad(x, margins, mode=mode)
    filling = value if number is None else number.reshape(())
    return module_of(x, number).pad(x, margins, constant_values=filling)


def expand(x: Value, target: Value) -> Value:
    """ONNX's Expand."""
    sizes = np.broadcast_shapes(x.shape, integers(target))
    return module_of(x).broadcast_to(x, sizes)


def constant_of_shape(sizes: Value, *, value: np.ndarray | None = None) -> np.ndarray:
    """ONNX's ConstantOfShape."""
    filling = np.zeros(1, np.float32) if value is None else value
    return np.full(integers(sizes), filling[0])


def cast(x: Value, *, to: int, saturate: int = 1) -> Value:
    """ONNX's Cast. Values that depend on the image keep their precision.

    `saturate` is for floating types of 8 bits, which are not known here.
    """
    if to not in _DTYPES:
        raise ValueError(f'The type {to} of TensorProto is not known here.')
    dtype = np.dtype(_DTYPES[to])
    if is_known(x):
        return x.astype(dtype)
    if dtype == np.float32 and jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return x.astype(jax.dtypes.canonicalize_dtype(dtype))


def dropout(
    x: Value, *_: Value | None, ratio: float = 0.5, seed: int = 0, is_test: int = 1
) -> Value:
    """ONNX's Dropout: nothing is dropped."""
    return x


def _either(attribute, given):
    """The value of an attribute or an input, as integers; None if both are missing."""
    said = given if attribute is None else attribute
    return None if said is None else integers(said)
