"""A recogniser of an ONNX file in PyTorch, to compare ours with.

Our own operators compute once what does not depend on the faces, such as shapes. The
operators below, those of MobileFaceNets and ResNets, compute the rest.
"""

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sicnn_jax.onnx.graph import Graph, read_graph
from sicnn_jax.onnx.inputs import columns_of, complete, read_input
from sicnn_jax.onnx.operators import find_operator
from sicnn_jax.template import HEIGHT


class Recogniser(nn.Module):
    """Features of faces [n, 3, 112, 96], as `OnnxRecogniser` computes them.

    Args:
      file: an ONNX file for faces that are at most padded at the sides, not resized.
      params: of `OnnxRecogniser.fit`; they are frozen.

    Raises:
      ValueError: the file has an operator that is unknown here, or takes faces of
        another height or layout.
    """

    def __init__(self, file: str, params: Mapping[str, Any]):
        super().__init__()
        graph = read_graph(file)
        self._expected = complete(read_input(file), graph.shape, file)
        if (self._expected.size[0], self._expected.layout) != (HEIGHT, 'NCHW'):
            raise ValueError(f'{file} takes {self._expected.describe()}.')
        self._input = graph.input
        self._output = self._expected.output or graph.outputs[0]
        arrays = dict(zip(graph.parameters, params['arrays'], strict=True))
        known, self._steps = _bind(graph, {**graph.constants, **arrays})
        # Single numbers become Python numbers, which are faster as bounds and factors.
        self._numbers = {
            name: value.item() for name, value in known.items() if not value.ndim
        }
        self._buffers_of = {
            name: f'array{place}'
            for place, name in enumerate(known)
            if name not in self._numbers
        }
        for name, buffer in self._buffers_of.items():
            self.register_buffer(buffer, torch.tensor(known[name]))
        self.register_buffer('centre', torch.tensor(np.asarray(params['centre'])))
        columns = columns_of(self._expected.size)
        self.register_buffer('columns', torch.from_numpy(columns))

    def forward(self, faces):
        values = dict(self._numbers)
        for name, buffer in self._buffers_of.items():
            values[name] = getattr(self, buffer)
        values[self._input] = self._arrange(faces[..., self.columns])
        for function, inputs, output in self._steps:
            values[output] = function(*(values[name] for name in inputs))
        return values[self._output].flatten(1) - self.centre

    def _arrange(self, faces):
        """(x − 127.5) / 128 → the input that the file takes."""
        if self._expected.colour_order == 'BGR':
            faces = faces.flip(1)
        mean, scale = (
            faces.new_tensor(value).reshape(-1, 1, 1)
            for value in (self._expected.mean, self._expected.scale)
        )
        return (faces * 128 + 127.5 - mean) * scale


def _bind(graph: Graph, known: dict[str, Any]):
    """Computes what does not depend on the face.

    Returns:
      The arrays that the remaining nodes take, by name; and each of these nodes, as a
      function of tensors, the names of the tensors and the name of its output.
    """
    steps: list[tuple[Callable, tuple[str, ...], str]] = []
    for node in graph.nodes:
        output, given = node.outputs[0], node.inputs
        if all(name in known for name in given if name):
            compute = find_operator(node.operator, graph.opset)
            values = (known[name] if name else None for name in given)
            known[output] = np.asarray(compute(*values, **node.attributes))
            continue
        if node.operator not in _OPERATORS:
            raise ValueError(f'{graph.path} has {node.operator}; see {__name__}.')
        bound, tensors = _OPERATORS[node.operator](node.attributes), given
        # Shapes and indices are bound as they are, not passed as tensors.
        if node.operator in _STATIC:
            tensors = given[:1]
            bound = partial(bound, *(known[name] for name in given[1:]))
        steps.append((bound, tensors, output))
    used = {name for _, inputs, _ in steps for name in inputs}
    return {name: value for name, value in known.items() if name in used}, steps


def _convolution(attributes):
    top, left, bottom, right = attributes.get('pads', (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise ValueError(f'A convolution is padded by {attributes["pads"]}.')
    return partial(
        functional.conv2d,
        stride=attributes.get('strides', 1),
        padding=(top, left),
        dilation=attributes.get('dilations', 1),
        groups=attributes.get('group', 1),
    )


def _normalization(attributes):
    epsilon = attributes.get('epsilon', 1e-5)

    def normalize(x, scale, bias, mean, variance):
        return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)

    return normalize


def _gemm(attributes):
    def gemm(a, b, *c):
        a, b = (
            x.T if attributes.get(name) else x
            for name, x in (('transA', a), ('transB', b))
        )
        product = attributes.get('alpha', 1.0) * (a @ b)
        return product + attributes.get('beta', 1.0) * c[0] if c else product

    return gemm


def _slice(starts, ends, axes, steps, x):
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(int(start), int(end), int(step))
    return x[tuple(index)]


def _expand(shape, x):
    return x.expand(torch.broadcast_shapes(x.shape, tuple(map(int, shape))))


def _reshape(shape, x):
    # The first number, 1 in the file, is the number of faces.
    return x.reshape(len(x), *map(int, shape[1:]))


def _plain(function):
    """An operator without attributes."""
    return lambda attributes: function


# Name → attributes → function of tensors.
_OPERATORS: dict[str, Callable] = {
    'Add': _plain(operator.add),
    'BatchNormalization': _normalization,
    'Clip': lambda attributes: partial(torch.clamp, **attributes),
    'Concat': lambda attributes: lambda *x: torch.cat(x, attributes['axis']),
    'Conv': _convolution,
    'Div': _plain(operator.truediv),
    'Dropout': _plain(lambda x, *_: x),
    'Expand': _plain(_expand),
    'Flatten': _plain(lambda x: x.flatten(1)),
    'Gemm': _gemm,
    'GlobalAveragePool': _plain(lambda x: x.mean((2, 3), keepdim=True)),
    'Identity': _plain(lambda x: x),
    'MatMul': _plain(operator.matmul),
    'Mul': _plain(operator.mul),
    'PRelu': _plain(lambda x, slope: torch.where(x < 0, slope * x, x)),
    'Relu': _plain(torch.relu),
    'Reshape': _plain(_reshape),
    'Sigmoid': _plain(torch.sigmoid),
    'Slice': _plain(_slice),
    'Sub': _plain(operator.sub),
}
# All inputs of these but the first are known.
_STATIC = ('Expand', 'Reshape', 'Slice')
