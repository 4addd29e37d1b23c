"""Reads ONNX files into plain Python: nodes, arrays, inputs and outputs.

A network is read as a network for one face: see `_for_one_face`.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sicnn_jax.errors import CheckpointError
from sicnn_jax.onnx.inputs import open_with
from sicnn_jax.onnx.operators import OPERATORS
from sicnn_jax.onnx.tensors import is_floating, read_tensor

__all__ = ['Graph', 'Node', 'read_graph']

_OLDEST = 7

# Inputs that are weights, even if they are single numbers.
_WEIGHTS = {
    'BatchNormalization': (1, 2),
    'Conv': (1, 2),
    'Gemm': (1, 2),
    'InstanceNormalization': (1, 2),
    'PRelu': (1,),
}
# Inputs that are not weights: a variance would turn negative in training.
_STATISTICS = {'BatchNormalization': (3, 4)}
_CONSTANT = 'Constant'
_VALUES = {
    'value': None,
    'value_float': np.float32,
    'value_floats': np.float32,
    'value_int': np.int64,
    'value_ints': np.int64,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes:
      operator: its name, a key of `OPERATORS`.
      name: of the node, or if it has none, of its first output.
      inputs: names of values; '' for one that is left out.
      outputs: names of values. Only the first one is ever computed.
      attributes: numbers, strings, arrays, or tuples of them.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A network.

    Attributes:
      path: of the file.
      nodes: in an order in which they can be computed, without constants.
      parameters: float32 arrays by the file's names, which may be trained: arrays of
        more than one number, and weights, biases or slopes by their place. They
        include a normalisation of the input.
      constants: all other arrays: integers, single numbers such as bounds, and the
        statistics of batch normalisation.
      input: name of the batch of images.
      shape: as declared, with the batch; open sizes are a name or None.
      outputs: names of the file's outputs.
      opset: version of the operators.
    """

    path: str
    nodes: tuple[Node, ...]
    parameters: Mapping[str, np.ndarray]
    constants: Mapping[str, np.ndarray]
    input: str
    shape: tuple[int | str | None, ...]
    outputs: tuple[str, ...]
    opset: int


def read_graph(path: str | os.PathLike) -> Graph:
    """Reads an ONNX file.

    Raises:
      CheckpointError: the file is missing or damaged, has unknown operators, data
        outside its folder or inputs other than one batch of images, or the package
        onnx is missing.
    """
    path = Path(path)
    model = _read_model(path)
    try:
        return _read(model, path)
    except CheckpointError:
        raise
    # Damage shows in many ways: for example, a name that is not text is read as bytes.
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f'{path} is damaged: {error}. Fetch or export the file again.'
        ) from error


def _read(model, path):
    opset = _opset(model, path)
    _check_operators(model.graph.node, path)
    name, shape = _image_input(model.graph, path)
    arrays = {
        tensor.name: read_tensor(tensor, path) for tensor in model.graph.initializer
    }
    nodes = []
    for node in (_read_node(node, path) for node in model.graph.node):
        if node.operator == _CONSTANT:
            arrays[node.outputs[0]] = _constant(node, path)
        else:
            nodes.append(node)
    outputs = tuple(output.name for output in model.graph.output)
    _check_order(nodes, {name, *arrays}, outputs, path)
    nodes, arrays = _for_one_face(nodes, arrays, name, shape[0])
    parameters, constants = _divide(nodes, arrays)
    return Graph(
        str(path), tuple(nodes), parameters, constants, name, shape, outputs, opset
    )


def _read_model(path):
    onnx = open_with(path, 'onnx')
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise CheckpointError(f'{path} cannot be opened: {error}') from error
    if not model.graph.node or not model.graph.output:
        raise CheckpointError(
            f'{path} has {len(model.graph.node)} nodes and {len(model.graph.output)} '
            'outputs; expected a network. Fetch or export the file again.'
        )
    return model


def _opset(model, path):
    """The version of ONNX's own operators."""
    versions = [
        imported.version for imported in model.opset_import if not _domain(imported)
    ]
    if not versions or versions[0] < _OLDEST:
        raise CheckpointError(
            f'{path} has operators of version {versions[0] if versions else "unknown"}'
            f'; expected {_OLDEST} or newer. Convert it with onnx.version_converter, '
            'or export it again.'
        )
    return versions[0]


def _domain(message):
    """The domain of the operators; '' for ONNX's own."""
    return '' if message.domain == 'ai.onnx' else message.domain


def _check_operators(nodes, path):
    """Raises a CheckpointError that lists all unknown operators."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        if _domain(node) or node.op_type not in (*OPERATORS, _CONSTANT):
            operator = '.'.join(filter(None, (_domain(node), node.op_type)))
            found.setdefault(operator, []).append(_name(node))
    if found:
        listed = ', '.join(
            f'{operator} (node {names[0]!r}'
            + (f' and {len(names) - 1} more)' if names[1:] else ')')
            for operator, names in found.items()
        )
        raise CheckpointError(
            f'{path} has operators that are not known here: {listed}. Expected some of '
            f'{", ".join(sorted(OPERATORS))}. Export the network again: in floating '
            "point, not quantised, with ONNX's own operators, and not optimised for a "
            'device.'
        )


def _image_input(graph, path):
    """Name and declared shape of the only input."""
    from onnx import TensorProto

    initialised = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initialised]
    types = [value.type.tensor_type for value in inputs]
    fits = [is_floating(type.elem_type) and type.shape.dim for type in types]
    if len(fits) != 1 or not fits[0]:
        known = dict(map(reversed, TensorProto.DataType.items()))
        found = ', '.join(
            f'{value.name!r} ({known.get(type.elem_type, type.elem_type)}, '
            f'{len(type.shape.dim)} axes)'
            for value, type in zip(inputs, types, strict=True)
        )
        raise CheckpointError(
            f'{path} has the inputs: {found or "none"}; expected one, a batch of '
            'images in floating point. Export the network with its other inputs as '
            'constants.'
        )
    return inputs[0].name, tuple(map(_size, types[0].shape.dim))


def _size(dimension):
    """A positive number, a name or None; old exports write 0 or −1 for an open size."""
    if dimension.HasField('dim_value'):
        return dimension.dim_value if dimension.dim_value > 0 else None
    return dimension.dim_param or None


def _name(node):
    return node.name or next(iter(node.output), '')


def _read_node(node, path):
    attributes = {
        attribute.name: _attribute(attribute, _name(node), path)
        for attribute in node.attribute
    }
    return Node(
        node.op_type, _name(node), tuple(node.input), tuple(node.output), attributes
    )


def _attribute(attribute, name, path):
    from onnx import TensorProto, helper

    try:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, TensorProto):
            return read_tensor(value, path)
        if isinstance(value, bytes):
            return value.decode()
        return tuple(value) if isinstance(value, Iterable) else value
    # CheckpointError is also a ValueError.
    except ValueError as error:
        raise CheckpointError(
            f'{path}: the attribute {attribute.name!r} of the node {name!r} cannot be '
            f'read: {error}'
        ) from error


def _constant(node, path):
    """The array of a node `Constant`."""
    kinds = list(node.attributes)
    if len(kinds) != 1 or kinds[0] not in _VALUES:
        raise CheckpointError(
            f'{path}: the node {node.name!r} (Constant) has the attributes '
            f'{", ".join(kinds) or "none"}; expected one of {", ".join(_VALUES)}. '
            'Export the network again without it.'
        )
    return np.asarray(node.attributes[kinds[0]], _VALUES[kinds[0]])


def _check_order(nodes, known, outputs, path):
    """Raises CheckpointError unless each value is made before it is used."""
    for node in nodes:
        for name in filter(None, node.inputs):
            if name not in known:
                raise CheckpointError(
                    f'{path}: the node {node.name!r} ({node.operator}) takes {name!r}, '
                    'which is neither an array of the file nor the first output of an '
                    'earlier node. Fetch or export the file again.'
                )
        known |= set(node.outputs[:1])
    for name in outputs:
        if name not in known:
            raise CheckpointError(
                f'{path}: nothing makes the output {name!r}. Fetch or export the file '
                'again.'
            )


def _for_one_face(nodes, arrays, image, batch):
    """Removes a fixed batch from the shapes to which a file reshapes its images.

    In a file for 64 faces, `Reshape` and `Expand` to [64, −1] or [64 · 8, 49, 32]
    become ones to [1, −1] or [8, 49, 32]. Shapes that are computed from the image's
    shape need no change.
    """
    if not isinstance(batch, int) or batch == 1:
        return nodes, arrays
    arrays, single, images = dict(arrays), [], {image}
    for node in nodes:
        if images & set(node.inputs) and node.operator != 'Shape':
            images |= set(node.outputs)
        shaped = node.operator in ('Reshape', 'Expand') and len(node.inputs) == 2
        if shaped and node.inputs[0] in images:
            data, shape = node.inputs
            target = arrays.get(shape, np.zeros(0))
            if target.size and target[0] > 0 and target[0] % batch == 0:
                # Other nodes may use the same array.
                name = f'{shape} for one face'
                arrays[name] = np.append(target[0] // batch, target[1:])
                node = dataclasses.replace(node, inputs=(data, name))
        single.append(node)
    return single, arrays


def _divide(nodes, arrays):
    """Splits the arrays in use into parameters and constants (see `Graph`)."""
    used: dict[str, bool] = {}
    fixed = set()
    for node in nodes:
        weights = _WEIGHTS.get(node.operator, ())
        for place, name in enumerate(node.inputs):
            if name in arrays:
                used[name] = used.get(name, False) or place in weights
                if place in _STATISTICS.get(node.operator, ()):
                    fixed.add(name)
    parameters = {
        name: arrays[name]
        for name, weight in used.items()
        if arrays[name].dtype == np.float32
        and (weight or arrays[name].size > 1)
        and name not in fixed
    }
    return parameters, {name: arrays[name] for name in used if name not in parameters}
