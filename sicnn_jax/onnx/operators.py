"""The operators of ONNX that recognition networks use.

An operator is a pure function of arrays and keyword attributes, named as in ONNX, and
returns ONNX's first output. A new one is such a function and a line in `OPERATORS`.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sicnn_jax.onnx import shapes, windows
from sicnn_jax.onnx.values import Value, integers, module_of

Operator = Callable[..., Value]


def find_operator(name: str, opset: int) -> Operator:
    """The operator as defined in a version of ONNX."""
    since, earlier = _EARLIER.get(name, (0, None))
    return earlier if earlier and opset < since else OPERATORS[name]


def batch_normalization(
    x: Value,
    scale: Value,
    bias: Value,
    mean: Value,
    variance: Value,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> Value:
    """ONNX's BatchNormalization, with the given statistics.

    Their shapes imply `spatial`; `momentum` is for training.
    """
    if training_mode:
        raise ValueError(
            'It is in training mode; expected fixed statistics. Export the network for '
            'inference, such as after model.eval().'
        )
    factor = scale / (variance + epsilon) ** 0.5
    offset = bias - mean * factor
    sizes = (*scale.shape, *[1] * (x.ndim - 1 - scale.ndim))
    return x * factor.reshape(sizes) + offset.reshape(sizes)


def instance_normalization(
    x: Value, scale: Value, bias: Value, *, epsilon: float = 1e-5
) -> Value:
    """ONNX's InstanceNormalization."""
    axes = tuple(range(2, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    variance = (centred * centred).mean(axes, keepdims=True)
    sizes = (-1, *[1] * len(axes))
    normal = centred / (variance + epsilon) ** 0.5
    return normal * scale.reshape(sizes) + bias.reshape(sizes)


def prelu(x: Value, slope: Value) -> Value:
    """ONNX's PRelu."""
    return jnp.where(x < 0, slope * x, x)


def leaky_relu(x: Value, *, alpha: float = 0.01) -> Value:
    """ONNX's LeakyRelu."""
    return jax.nn.leaky_relu(x, alpha)


def hard_sigmoid(x: Value, *, alpha: float = 0.2, beta: float = 0.5) -> Value:
    """ONNX's HardSigmoid."""
    return jnp.clip(alpha * x + beta, 0, 1)


def hard_swish(x: Value) -> Value:
    """ONNX's HardSwish."""
    return x * hard_sigmoid(x, alpha=1 / 6)


def gelu(x: Value, *, approximate: str = 'none') -> Value:
    """ONNX's Gelu."""
    return jax.nn.gelu(x, approximate=approximate == 'tanh')


def clip(
    x: Value,
    low: Value | None = None,
    high: Value | None = None,
    *,
    min: float | None = None,
    max: float | None = None,
) -> Value:
    """ONNX's Clip, by inputs or attributes."""
    bounds = (min if low is None else low), (max if high is None else high)
    return module_of(x, low, high).clip(x, *bounds)


def divide(a: Value, b: Value) -> Value:
    """ONNX's Div; integers are rounded towards 0."""
    if np.issubdtype(a.dtype, np.integer):
        module = module_of(a, b)
        return module.abs(a) // module.abs(b) * module.sign(a) * module.sign(b)
    return a / b


def gemm(
    a: Value,
    b: Value,
    c: Value | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    """ONNX's Gemm."""
    product = (a.T if transA else a) @ (b.T if transB else b)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c if beta == 1 else beta * c)


def lp_normalization(x: Value, *, axis: int = -1, p: int = 2) -> Value:
    """ONNX's LpNormalization; zeros stay zeros and have a gradient."""
    if p == 1:
        total = jnp.abs(x).sum(axis, keepdims=True)
        return x / jnp.where(total == 0, 1, total)
    square = (x * x).sum(axis, keepdims=True)
    return x / jnp.where(square == 0, 1, square) ** 0.5


def flattened_softmax(x: Value, *, axis: int = 1) -> Value:
    """ONNX's Softmax before version 13: over all axes from `axis` on."""
    return jax.nn.softmax(x, tuple(range(axis % x.ndim, x.ndim)))


def l2_norm(
    x: Value, axis: Sequence[int] | None = None, keepdims: bool = False
) -> Value:
    """√Σx²."""
    return (x * x).sum(axis, keepdims=keepdims) ** 0.5


def _reduction(function):
    """ONNX's Reduce…, with axes by an input or an attribute."""

    def reduce(x, given=None, *, axes=None, keepdims=1, noop_with_empty_axes=0):
        along = axes if given is None else integers(given)
        if not along and noop_with_empty_axes:
            return x
        return function(
            x, axis=tuple(along) if along else None, keepdims=bool(keepdims)
        )

    return reduce


def _over_space(function):
    """ONNX's Global…Pool."""
    return lambda x: function(x, tuple(range(2, x.ndim)), keepdims=True)


def _elementwise(name):
    """A function of `numpy` and `jax.numpy`."""

    def compute(*values):
        return getattr(module_of(*values), name)(*values)

    return compute


def _folded(function):
    """A function of two values for any number of them."""
    return lambda *values: functools.reduce(function, values)


OPERATORS: dict[str, Operator] = {
    'Abs': _elementwise('abs'),
    'Add': _elementwise('add'),
    'AveragePool': windows.average_pool,
    'BatchNormalization': batch_normalization,
    'Cast': shapes.cast,
    'Clip': clip,
    'Concat': shapes.concat,
    'ConstantOfShape': shapes.constant_of_shape,
    'Conv': windows.conv,
    'Div': divide,
    'Dropout': shapes.dropout,
    'Elu': jax.nn.elu,
    'Equal': _elementwise('equal'),
    'Erf': jax.scipy.special.erf,
    'Exp': _elementwise('exp'),
    'Expand': shapes.expand,
    'Flatten': shapes.flatten,
    'Gather': shapes.gather,
    'Gelu': gelu,
    'Gemm': gemm,
    'GlobalAveragePool': _over_space(jnp.mean),
    'GlobalMaxPool': _over_space(jnp.max),
    'HardSigmoid': hard_sigmoid,
    'HardSwish': hard_swish,
    'Identity': lambda x: x,
    'InstanceNormalization': instance_normalization,
    'LeakyRelu': leaky_relu,
    'Log': _elementwise('log'),
    'LpNormalization': lp_normalization,
    'MatMul': _elementwise('matmul'),
    'Max': _folded(_elementwise('maximum')),
    'MaxPool': windows.max_pool,
    'Min': _folded(_elementwise('minimum')),
    'Mish': jax.nn.mish,
    'Mul': _elementwise('multiply'),
    'Neg': _elementwise('negative'),
    'PRelu': prelu,
    'Pad': shapes.pad,
    'Pow': _elementwise('power'),
    'Reciprocal': _elementwise('reciprocal'),
    'ReduceL2': _reduction(l2_norm),
    'ReduceMax': _reduction(jnp.max),
    'ReduceMean': _reduction(jnp.mean),
    'ReduceSum': _reduction(jnp.sum),
    'Relu': jax.nn.relu,
    'Reshape': shapes.reshape,
    'Shape': shapes.shape,
    'Sigmoid': jax.nn.sigmoid,
    'Slice': shapes.slice_,
    'Softmax': jax.nn.softmax,
    'Softplus': jax.nn.softplus,
    'Sqrt': _elementwise('sqrt'),
    'Squeeze': shapes.squeeze,
    'Sub': _elementwise('subtract'),
    'Sum': _folded(_elementwise('add')),
    'Tanh': _elementwise('tanh'),
    'Transpose': shapes.transpose,
    'Unsqueeze': shapes.unsqueeze,
    'Where': _elementwise('where'),
}

# Operators whose meaning has changed: the version of the change, and the earlier form.
_EARLIER: dict[str, tuple[int, Operator]] = {'Softmax': (13, flattened_softmax)}
