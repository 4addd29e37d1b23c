"""Each operator as ONNX Runtime has it, over versions and attributes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.onnx import windows
from sicnn_jax.onnx.operators import OPERATORS
from tests.onnx.onnx_files import Network, check_same, normal, numpy_helper

IMAGE = (4, 7, 6)
SAME = {'pads': [1, 1, 1, 1]}


def ints(*numbers):
    return np.array(numbers)


def number(value):
    return np.float32(value)


def case(opset, operator, *arrays, shape=IMAGE, first=(), **attributes):
    """A node with the image, after the arrays of `first` and before the others."""
    return opset, operator, shape, first, arrays, attributes


KERNEL = normal(6, 4, 3, 3)
CASES = [
    case(7, 'Conv', KERNEL, normal(6), **SAME),
    case(11, 'Conv', KERNEL, pads=[0, 1, 2, 0], strides=[2, 1]),
    case(11, 'Conv', KERNEL, dilations=[2, 1], pads=[2, 1, 2, 1]),
    case(11, 'Conv', KERNEL, auto_pad='SAME_UPPER', strides=[2, 2]),
    case(11, 'Conv', KERNEL, auto_pad='SAME_LOWER', strides=[2, 2]),
    case(11, 'Conv', KERNEL, auto_pad='VALID'),
    case(17, 'Conv', normal(6, 2, 3, 3), group=2, kernel_shape=[3, 3], **SAME),
    case(17, 'Conv', normal(8, 1, 3, 3), group=4, **SAME),
    case(17, 'Conv', normal(4, 1, 3, 3), normal(4), group=4, **SAME),
    case(17, 'Conv', normal(4, 1, 3, 2), group=4, strides=[2, 3], pads=[0, 1, 2, 0]),
    case(17, 'Conv', normal(4, 1, 2, 3), group=4, dilations=[3, 2], auto_pad='VALID'),
    case(17, 'Conv', normal(5, 4, 3), shape=(4, 7), pads=[1, 0]),
    case(7, 'BatchNormalization', *normal(3, 4), normal(4) ** 2, epsilon=1e-3),
    case(17, 'BatchNormalization', *normal(3, 4), normal(4) ** 2, shape=(4,)),
    case(17, 'InstanceNormalization', normal(4), normal(4), epsilon=1e-3),
    case(9, 'PRelu', normal(4, 1, 1)),
    case(17, 'PRelu', normal(1)),
    case(7, 'Relu'),
    case(7, 'LeakyRelu'),
    case(17, 'LeakyRelu', alpha=0.3),
    case(17, 'Elu', alpha=0.7),
    case(7, 'Sigmoid'),
    case(17, 'HardSigmoid'),
    case(17, 'HardSigmoid', alpha=0.3, beta=0.4),
    case(17, 'HardSwish'),
    case(18, 'Mish'),
    case(20, 'Gelu'),
    case(20, 'Gelu', approximate='tanh'),
    case(17, 'Softplus'),
    case(17, 'Erf'),
    case(7, 'Tanh'),
    case(7, 'Exp'),
    case(7, 'Abs'),
    case(7, 'Neg'),
    case(7, 'Reciprocal'),
    case(9, 'Clip', min=-0.5, max=0.5),
    case(9, 'Clip', max=0.5),
    case(11, 'Clip', number(-0.5), number(0.5)),
    case(13, 'Clip', '', number(0.5)),
    case(13, 'Clip', number(0)),
    case(7, 'Add', normal(4, 1, 1)),
    case(17, 'Sub', number(0.5)),
    case(17, 'Sub', first=[normal(4, 7, 6)]),
    case(17, 'Mul', normal(6)),
    case(17, 'Div', normal(1, 1, 6) ** 2 + 1),
    case(7, 'Pow', number(2)),
    case(17, 'Pow', np.int64(3)),
    case(8, 'Max', normal(6), normal(4, 1, 1)),
    case(13, 'Min', normal(6)),
    case(13, 'Sum', normal(6), normal(7, 1)),
    case(13, 'Concat', 'x', axis=1),
    case(13, 'Concat', 'x', 'x', axis=-1),
    case(9, 'Slice', axes=[2, 3], starts=[1, -4], ends=[5, 2**63 - 1]),
    case(9, 'Slice', starts=[0, 1], ends=[9, 3]),
    case(10, 'Slice', ints(1, -1), ints(6, -9), ints(2, 3), ints(2, -2)),
    case(13, 'Slice', ints(0, 1), ints(9, 3)),
    case(13, 'Slice', ints(-1), ints(-(2**63)), ints(-2), ints(-1)),
    case(7, 'Transpose', perm=[0, 2, 3, 1]),
    case(10, 'Pad', pads=[0, 0, 1, 2, 0, 1, 0, 3], value=0.5),
    case(10, 'Pad', pads=[0, 0, 1, 2, 0, 0, 0, 3], mode='reflect'),
    case(11, 'Pad', ints(0, 0, 1, -2, 0, 1, -1, 3), number(0.5)),
    case(11, 'Pad', ints(0, 0, 1, 2, 0, 1, 0, 3)),
    case(13, 'Pad', ints(0, 0, 1, 2, 0, 0, 0, 3), mode='edge'),
    case(18, 'Pad', ints(1, 2, 0, 3), number(2), ints(2, -1)),
    case(18, 'Pad', ints(1, 2, 0, 3), '', ints(2, 3), mode='reflect'),
    case(9, 'Flatten'),
    case(13, 'Flatten', axis=-1, shape=(4,)),
    case(13, 'Reshape', ints(0, 2, -1, 6)),
    case(14, 'Reshape', ints(-1, 4, 42), allowzero=1),
    case(11, 'Squeeze', axes=[2, 3], shape=(4, 1, 1)),
    case(13, 'Squeeze', ints(-1), shape=(4, 1, 1)),
    case(13, 'Squeeze', shape=(4, 1, 1)),
    case(11, 'Unsqueeze', axes=[2, 4]),
    case(13, 'Unsqueeze', ints(-1, 1)),
    case(13, 'Gather', ints(2, -1), axis=1),
    case(13, 'Gather', ints([1, 0], [3, 3]), axis=1),
    case(13, 'Gather', np.int64(-1), axis=3),
    case(13, 'Expand', ints(1, 4, 1, 6), shape=(1, 7, 1)),
    case(13, 'Cast', to=1),
    case(13, 'Identity'),
    case(7, 'Dropout', ratio=0.5),
    case(13, 'Dropout', number(0.5), np.array(False)),
    case(7, 'Gemm', normal(4, 5), normal(5), shape=(4,)),
    case(9, 'Gemm', normal(5, 4), normal(1, 5), shape=(4,), transB=1, alpha=0.5),
    case(13, 'Gemm', normal(4, 5), number(3), shape=(4,), beta=0.25),
    case(17, 'MatMul', normal(6, 5)),
    case(17, 'MatMul', first=[normal(5, 7)]),
    case(7, 'AveragePool', kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    case(7, 'AveragePool', kernel_shape=[3, 3], count_include_pad=1, **SAME),
    case(10, 'AveragePool', kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    case(19, 'AveragePool', kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, **SAME),
    case(
        19, 'AveragePool', kernel_shape=[3, 3], strides=[3, 2], ceil_mode=1,
        count_include_pad=1, **SAME,
    ),
    case(19, 'AveragePool', kernel_shape=[3, 2], dilations=[2, 3]),
    case(11, 'AveragePool', kernel_shape=[3, 3], strides=[2, 2], auto_pad='SAME_LOWER'),
    case(8, 'MaxPool', kernel_shape=[3, 3], strides=[2, 2], **SAME),
    case(10, 'MaxPool', kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, **SAME),
    case(12, 'MaxPool', kernel_shape=[2, 3], dilations=[3, 2]),
    case(12, 'MaxPool', kernel_shape=[2, 2], strides=[2, 2], auto_pad='SAME_UPPER'),
    case(7, 'GlobalAveragePool'),
    case(7, 'GlobalMaxPool'),
    case(11, 'ReduceMean', axes=[2, 3]),
    case(13, 'ReduceMean', axes=[-1], keepdims=0),
    case(18, 'ReduceMean', ints(2, 3), keepdims=0),
    case(18, 'ReduceMean', noop_with_empty_axes=1),
    case(11, 'ReduceSum', axes=[1]),
    case(13, 'ReduceSum', ints(1, -1), keepdims=0),
    case(13, 'ReduceMax', axes=[1]),
    case(13, 'ReduceL2', axes=[1]),
    case(18, 'ReduceL2', ints(1)),
    case(17, 'LpNormalization', axis=1),
    case(17, 'LpNormalization', p=1),
    case(11, 'Softmax'),
    case(11, 'Softmax', axis=2),
    case(13, 'Softmax'),
    case(13, 'Softmax', axis=1),
]  # fmt: skip


@pytest.mark.parametrize(
    ('opset', 'operator', 'shape', 'first', 'arrays', 'attributes'),
    CASES,
    ids=[f'{each[1]}-{each[0]}' for each in CASES],
)
def test_operator(tmp_path, opset, operator, shape, first, arrays, attributes):
    network = Network()
    network.add(operator, *first, 'x', *arrays, **attributes)
    path = network.save(tmp_path / 'network.onnx', ['n', *shape], opset=opset)
    check_same(path, normal(2, *shape))


@pytest.mark.parametrize('operator', ['Sqrt', 'Log'])
def test_operators_of_what_is_positive(tmp_path, operator):
    network = Network()
    network.add(operator, network.add('Exp', 'x'))
    path = network.save(tmp_path / 'network.onnx', ['n', 3, 2])
    check_same(path, normal(2, 3, 2))


def test_shapes_are_computed_while_tracing(tmp_path):
    network = Network()
    add = network.add
    shape = add('Shape', 'x')
    # [n, 4, 7, 6] by way of numbers that are no integers.
    floating = add('Cast', shape, to=1)
    shape = add('Cast', add('Sqrt', add('Pow', floating, number(2))), to=7)
    shape = add('Div', add('Mul', shape, ints(1, 3, 5, 7)), ints(1, 3, 5, 7))
    shape = add('Squeeze', add('Transpose', add('Unsqueeze', shape, ints(1))))
    # [n, 4, 42], the last one by a comparison with a number of none.
    last = add('Slice', shape, ints(3), ints(4))
    last = add('Where', add('Equal', last, ints(6)), ints(42), last)
    ones = add('ConstantOfShape', ints(2), value=numpy_helper.from_array(ints(1)))
    first = add('Max', add('Gather', shape, ints(0, 1)), ones)
    y = add('Reshape', 'x', add('Concat', first, last, axis=0))
    # [n, -1], with a margin around it.
    sizes = add('Pad', add('Shape', 'x', end=1), ints(0, 1), np.int64(-1))
    y = add('Reshape', y, add('Identity', sizes))
    add('Expand', add('Unsqueeze', y, ints(1)), add('Concat', first, ints(1), axis=0))
    path = network.save(tmp_path / 'network.onnx', ['n', *IMAGE])
    check_same(path, normal(2, *IMAGE))


def test_every_operator_is_compared():
    compared = {operator for _, operator, *_ in CASES} | {'Sqrt', 'Log'}
    shapes = {'Shape', 'ConstantOfShape', 'Equal', 'Where'}
    assert compared | shapes == set(OPERATORS)


def test_integers_are_divided_towards_0():
    found = OPERATORS['Div'](ints(7, -7, 7, -7, 6), ints(2, 2, -2, -2, 3))
    assert found.tolist() == [3, -3, -3, 3, 2]


def test_zeros_are_normalised_to_zeros_with_a_gradient():
    for p in (1, 2):
        normalize = functools.partial(OPERATORS['LpNormalization'], p=p)
        jacobian = jax.jit(jax.jacrev(normalize))(jnp.zeros((1, 3)))
        assert jnp.isfinite(jacobian).all()
        assert not jax.jit(normalize)(jnp.zeros((1, 3))).any()


@pytest.mark.parametrize(
    ('sides', 'strides', 'dilations', 'margins'),
    [
        ((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
        ((3, 3), (2, 2), (1, 1), ((1, 1), (1, 1))),
        ((3, 2), (2, 3), (1, 2), ((0, 2), (3, 0))),
        ((7, 6), (1, 1), (1, 1), ((0, 0), (0, 0))),
        # Pixels that no tap reaches, and margins beyond the kernel.
        ((1, 2), (3, 2), (1, 1), ((0, 0), (4, 3))),
    ],
)
def test_shifted_products_are_depthwise_convolution(sides, strides, dilations, margins):
    x, kernel = normal(2, 3, 7, 6), normal(3, 1, *sides)

    def direct(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, margins, rhs_dilation=dilations, feature_group_count=3
        )

    def shifted(x, kernel):
        return windows.shifted_products(x, kernel, strides, dilations, margins)

    weights = normal(*jax.eval_shape(direct, x, kernel).shape)

    @jax.jit
    def compute(x, kernel):
        found = []
        for way in (direct, shifted):
            y, pull_back = jax.vjp(way, x, kernel)
            found.append((y, *pull_back(weights)))
        return found

    expected, found = compute(x, kernel)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_only_a_cpu_has_shifted_products():
    x, kernel = jnp.zeros((1, 3, 7, 6)), jnp.zeros((3, 1, 3, 3))
    run = jax.jit(lambda x: OPERATORS['Conv'](x, kernel, group=3))
    for platform, direct in (('cpu', 0), ('cuda', 1)):
        text = run.trace(x).lower(lowering_platforms=(platform,)).as_text()
        assert text.count('stablehlo.convolution') == direct
