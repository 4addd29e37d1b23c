"""ONNX files for tests, and what ONNX Runtime makes of them."""

import jax
import numpy as np
import pytest

from sicnn_jax.onnx.graph import read_graph
from sicnn_jax.onnx.interpret import evaluate

onnx = pytest.importorskip('onnx')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RANDOM = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return (scale * RANDOM.normal(size=shape)).astype(np.float32)


class Network:
    """Nodes that are added one after the other; the input is named 'x'."""

    def __init__(self):
        self.nodes, self.arrays = [], {}

    def add(self, operator, *inputs, **attributes):
        """Adds a node; arrays among its inputs become initialisers. Its output."""
        names = [name if isinstance(name, str) else self._keep(name) for name in inputs]
        output = f'{operator.lower()}_{len(self.nodes)}'
        node = helper.make_node(operator, names, [output], output, **attributes)
        self.nodes.append(node)
        return output

    def conv(self, x, channels, features, side, *, group=1, bias=False, **attributes):
        scale = (channels // group * side * side) ** -0.5
        kernel = normal(features, channels // group, side, side, scale=scale)
        biases = [normal(features)] if bias else []
        return self.add('Conv', x, kernel, *biases, group=group, **attributes)

    def norm(self, x, features, **attributes):
        scale, bias, mean = (1 + normal(features, scale=0.1) for _ in range(3))
        variance = 0.5 + normal(features) ** 2
        return self.add(
            'BatchNormalization', x, scale, bias, mean, variance, **attributes
        )

    def model(self, shape, *outputs, opset=17, dtype=TensorProto.FLOAT):
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            'network',
            [info('x', dtype, shape)],
            [info(name, dtype, None) for name in outputs or [self.last]],
            [numpy_helper.from_array(*item[::-1]) for item in self.arrays.items()],
        )
        opsets = [helper.make_opsetid('', opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, path, shape, *outputs, **settings):
        onnx.save(self.model(shape, *outputs, **settings), path)
        return path

    @property
    def last(self):
        return self.nodes[-1].output[0]

    def _keep(self, array):
        name = f'layer/{len(self.arrays)}.weight'
        self.arrays[name] = np.asarray(array)
        return name


def by_runtime(path, x, outputs=None):
    """What ONNX Runtime makes of a batch."""
    onnxruntime = pytest.importorskip('onnxruntime')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    return session.run(outputs, {session.get_inputs()[0].name: x})[0]


def by_jax(path, x, outputs=()):
    """What we make of a batch."""
    graph = read_graph(path)

    @jax.jit
    def run(parameters, x):
        return jax.vmap(lambda x: evaluate(graph, parameters, x, outputs)[0])(x)

    return np.asarray(run(graph.parameters, x))


def check_close(ours, theirs, part=1e-5):
    """Fails where features differ by more than this part of the largest one."""
    assert ours.shape == theirs.shape
    largest = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=part * largest)


def check_same(path, x):
    """Our features; fails unless ONNX Runtime's are the same."""
    ours, theirs = by_jax(path, x), by_runtime(path, x)
    check_close(ours, theirs, 1e-4)
    a, b = (y.reshape(len(y), -1).astype(np.float64) for y in (ours, theirs))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    assert ((a * b).sum(axis=1) >= 0.99999 * norms).all()
    return ours
