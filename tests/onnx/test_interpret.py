"""Recognition networks as ONNX Runtime computes them, and their gradients."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.errors import CheckpointError
from sicnn_jax.onnx.graph import read_graph
from sicnn_jax.onnx.interpret import evaluate
from tests.onnx.onnx_files import (
    Network,
    by_jax,
    by_runtime,
    check_close,
    check_same,
    normal,
)

# A network that takes [n, 3, 112, 96], for whoever has one.
OUTSIDE = os.environ.get('SICNN_ONNX', '')

SIZE = (3, 28, 24)


def mobilefacenet():
    """Depthwise convolutions, linear bottlenecks, a global depthwise convolution."""
    network, same = Network(), {'pads': [1, 1, 1, 1]}
    y = network.norm(network.conv('x', 3, 8, 3, strides=[2, 2], **same), 8)
    y = start = network.add('PRelu', y, normal(8, 1, 1))
    for strides in ([1, 1], [2, 2]):
        y = network.conv(y, 8, 16, 1)
        y = network.add('PRelu', network.norm(y, 16), normal(16, 1, 1))
        y = network.conv(y, 16, 16, 3, group=16, strides=strides, **same)
        y = network.add('PRelu', network.norm(y, 16), normal(16, 1, 1))
        y = network.norm(network.conv(y, 16, 8, 1), 8)
        if strides == [1, 1]:
            y = network.add('Add', y, start)
    y = network.add('Conv', y, normal(8, 1, 7, 6, scale=0.2), group=8)
    y = network.add('Flatten', network.conv(y, 8, 16, 1, bias=True))
    size = network.add('ReduceL2', y, axes=[1], keepdims=1)
    network.add('Div', y, network.add('Clip', size, np.float32(1e-12)))
    return network


def iresnet():
    """Residual blocks that begin with a normalisation, a dense layer at the end."""
    network, same = Network(), {'pads': [1, 1, 1, 1]}
    y = network.norm(network.conv('x', 3, 8, 3, **same), 8)
    y = shortcut = network.add('PRelu', y, normal(8, 1, 1))
    y = network.conv(network.norm(y, 8), 8, 12, 3, **same)
    y = network.add('PRelu', network.norm(y, 12, epsilon=2e-5), normal(12, 1, 1))
    y = network.norm(network.conv(y, 12, 12, 3, strides=[2, 2], **same), 12)
    shortcut = network.norm(network.conv(shortcut, 8, 12, 1, strides=[2, 2]), 12)
    y = network.norm(network.add('Add', y, shortcut), 12)
    y = network.add('Flatten', network.add('Dropout', y))
    weights = normal(16, 12 * 14 * 12, scale=0.02)
    y = network.add('Gemm', y, weights, normal(16), transB=1)
    network.norm(y, 16)
    return network


def squeeze_and_excite():
    """Channels weighed by what the whole image has of them."""
    network = Network()
    y = network.conv('x', 3, 8, 3, bias=True, auto_pad='SAME_UPPER', strides=[2, 2])
    y = network.add('HardSwish', y)
    weights = network.add('GlobalAveragePool', y)
    weights = network.add('Relu', network.conv(weights, 8, 4, 1, bias=True))
    weights = network.add('Sigmoid', network.conv(weights, 4, 8, 1, bias=True))
    y = network.add('Mul', y, weights)
    y = network.add('MaxPool', y, kernel_shape=[3, 3], strides=[2, 2])
    y = network.add('ReduceMean', y, axes=[2, 3], keepdims=0)
    network.add('Add', network.add('MatMul', y, normal(8, 16)), normal(16))
    return network


def dynamic_shapes():
    """Shapes computed from that of the image, as PyTorch's `view` and `expand` are."""
    network = Network()
    y = network.conv('x', 3, 8, 3, bias=True)
    shape = network.add('Shape', 'x')
    batch = network.add('Gather', shape, np.int64(0), axis=0)
    batch = network.add('Unsqueeze', batch, np.array([0]))
    # A margin of zeros on the left as high as the image: expanded from one number.
    sizes = network.add('Slice', network.add('Shape', y), np.array([1]), np.array([3]))
    sizes = network.add('Concat', batch, sizes, np.array([-1]), axis=0)
    ones = network.add('ConstantOfShape', np.array([4]), value=_tensor([1]))
    unknown = network.add('Equal', sizes, np.array([-1]))
    sizes = network.add('Where', unknown, ones, sizes)
    margin = network.add('Expand', normal(1, 1, 1, 1), sizes)
    y = network.add('Concat', margin, y, axis=3)
    # Half of the channels together with all pixels.
    channels = network.add('Gather', network.add('Shape', y), np.int64(1))
    half = network.add('Cast', network.add('Div', channels, np.int64(2)), to=7)
    half = network.add('Unsqueeze', half, np.array([0]))
    target = network.add('Concat', batch, half, np.array([-1]), axis=0)
    y = network.add('Transpose', network.add('Reshape', y, target), perm=[0, 2, 1])
    y = network.add('Softmax', network.add('MatMul', y, normal(4, 4)))
    network.add('Reshape', y, network.add('Concat', batch, np.array([-1]), axis=0))
    return network


def _tensor(values):
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(values))


NETWORKS = (mobilefacenet, iresnet, squeeze_and_excite, dynamic_shapes)


@pytest.fixture(scope='module', params=NETWORKS, ids=lambda build: build.__name__)
def path(request, tmp_path_factory):
    """A network in a file, whose batch is open."""
    folder = tmp_path_factory.mktemp('networks')
    return request.param().save(folder / 'network.onnx', ['n', *SIZE])


def test_features_are_those_of_onnx_runtime_and_the_same_one_by_one(path):
    graph, x = read_graph(path), normal(3, *SIZE)
    together = check_same(path, x)
    one = jax.jit(lambda x: evaluate(graph, graph.parameters, x)[0])
    alone = np.stack([one(face) for face in x])
    check_close(together, alone)


def test_a_trained_network_is_that_of_onnx_runtime():
    if not OUTSIDE:
        pytest.skip('SICNN_ONNX names no network for real faces.')
    check_same(OUTSIDE, np.tanh(normal(2, 3, 112, 96)))


@pytest.fixture
def float64():
    jax.config.update('jax_enable_x64', True)
    yield
    jax.config.update('jax_enable_x64', False)


def test_gradients_are_finite_differences(path, float64):
    graph, random = read_graph(path), np.random.default_rng(2)
    point = {
        name: jnp.asarray(array, jnp.float64)
        for name, array in graph.parameters.items()
    }
    point['x'] = jnp.asarray(random.normal(size=SIZE))
    (features,) = jax.eval_shape(lambda x: evaluate(graph, point, x), point['x'])
    assert features.dtype == jnp.float64
    weights = random.normal(size=features.shape)

    @jax.jit
    @jax.value_and_grad
    def differentiated(point):
        return jnp.sum(evaluate(graph, point, point['x'])[0] * weights)

    _, gradients = differentiated(point)
    # The image, and all parameters at once.
    for names in (['x'], list(graph.parameters)):
        change = {name: random.normal(size=point[name].shape) for name in names}
        moved = [
            point | {name: point[name] + step * change[name] for name in names}
            for step in (1e-7, -1e-7)
        ]
        above, below = (differentiated(at)[0] for at in moved)
        slope = sum(jnp.vdot(gradients[name], change[name]) for name in names)
        assert abs(slope) > 1e-3
        np.testing.assert_allclose(slope, (above - below) / 2e-7, rtol=1e-4)
    assert all(np.any(gradient) for gradient in gradients.values())


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_features_have_the_dtype_of_the_image(path, dtype):
    graph = read_graph(path)
    x = jnp.asarray(normal(*SIZE), dtype)
    (features,) = jax.eval_shape(lambda x: evaluate(graph, graph.parameters, x), x)
    assert features.dtype == dtype


def test_constants_do_not_raise_the_precision(tmp_path):
    network = Network()
    y = network.add('Mul', network.conv('x', 3, 4, 3), np.float32(0.5))
    y = network.add('Flatten', network.add('Clip', y, np.float32(0), np.float32(6)))
    path = network.save(tmp_path / 'network.onnx', ['n', *SIZE])
    graph = read_graph(path)
    x = jnp.asarray(normal(*SIZE), jnp.bfloat16)
    program = jax.make_jaxpr(lambda x: evaluate(graph, graph.parameters, x)[0])(x)
    assert 'bf16[' in str(program) and 'f32[' not in str(program)


def test_outputs_inside_the_network_can_be_named(tmp_path):
    network = iresnet()
    path = network.save(tmp_path / 'network.onnx', ['n', *SIZE])
    graph, x = read_graph(path), normal(*SIZE)
    inner, last = 'prelu_2', network.last
    first, second = jax.jit(
        lambda x: evaluate(graph, graph.parameters, x, [inner, last])
    )(x)
    assert first.shape == (8, 28, 24)
    check_close(second, by_jax(path, x[None])[0])
    network.save(path, ['n', *SIZE], inner)
    check_close(first, by_runtime(path, x[None])[0])
    with pytest.raises(CheckpointError, match=f"no output 'fc1'; it has {last}"):
        evaluate(graph, graph.parameters, x, ['fc1'])


@pytest.mark.parametrize(
    ('batch', 'targets'),
    [
        ('None', [[1, -1]]),
        (1, [[1, 48]]),
        (64, [[64, -1]]),
        (64, [[64, 48]]),
        (64, [[-1, 48]]),
        # Channels beside faces, as attention has its heads.
        (64, [[192, 4, 4], [64, -1]]),
        (4, [[12, -1, 2], [4, 0, 1, -1], [0, -1]]),
    ],
)
def test_a_batch_inside_the_file_does_not_matter(tmp_path, batch, targets):
    network = Network()
    y = network.add('AveragePool', 'x', kernel_shape=[4, 4], strides=[4, 4])
    y = network.add(
        'Softmax', network.add('Expand', y, np.array([batch_of(batch), 3, 4, 4]))
    )
    for target in targets:
        y = network.add('Reshape', y, np.array(target))
    network.add('Gemm', y, normal(48, 8))
    path = network.save(tmp_path / 'network.onnx', [batch, 3, 16, 16])
    x = normal(batch_of(batch), 3, 16, 16)
    expected = by_runtime(path, x)
    more = np.concatenate([x, normal(2, 3, 16, 16)])
    check_close(by_jax(path, more)[: len(x)], expected)


def batch_of(declared):
    return declared if isinstance(declared, int) else 1


def test_an_open_batch_with_another_one_inside(tmp_path):
    network = Network()
    network.add('Reshape', network.add('Relu', 'x'), np.array([64, 48]))
    path = network.save(tmp_path / 'network.onnx', ['n', 3, 4, 4])
    x = normal(64, 3, 4, 4)
    np.testing.assert_array_equal(by_jax(path, x[:3]), by_runtime(path, x)[:3])
    # Where nothing tells 64 faces from 64 rows of one, nothing is guessed.
    network = Network()
    network.add('Reshape', network.add('Relu', 'x'), np.array([16, -1]))
    network.save(path, ['n', 3, 4, 4])
    with pytest.raises(CheckpointError, match=r'\[16, 3\] for one face.*batch fixed'):
        by_jax(path, x)


def test_an_open_size(tmp_path):
    network = Network()
    network.add('Flatten', 'x')
    path = network.save(tmp_path / 'network.onnx', ['n', 3, 'h', 24])
    assert by_jax(path, normal(1, 3, 28, 24)).shape == (1, 3 * 28 * 24)


def test_what_cannot_be_computed_names_the_node(tmp_path):
    network = Network()
    network.add('Gemm', network.add('Flatten', 'x'), normal(7, 2))
    path = network.save(tmp_path / 'network.onnx', ['n', 3, 2, 1])
    message = r"network.onnx: the node 'gemm_1' \(Gemm\).*\[\[1, 6\], \[7, 2\]\]"
    with pytest.raises(CheckpointError, match=message):
        by_jax(path, normal(1, 3, 2, 1))


def test_a_shape_that_depends_on_the_image_is_refused(tmp_path):
    network = Network()
    sizes = network.add('Cast', network.add('ReduceMean', 'x', keepdims=0), to=7)
    network.add('Reshape', 'x', network.add('Unsqueeze', sizes, np.array([0])))
    path = network.save(tmp_path / 'network.onnx', ['n', 3, 2, 1])
    with pytest.raises(CheckpointError, match=r'\(Reshape\).*depends on the image'):
        by_jax(path, normal(1, 3, 2, 1))
