"""Computes the network of an ONNX file while JAX traces."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sicnn_jax.errors import CheckpointError
from sicnn_jax.onnx.graph import Graph
from sicnn_jax.onnx.operators import find_operator
from sicnn_jax.onnx.values import Value, is_known

__all__ = ['evaluate']


def evaluate(
    graph: Graph,
    parameters: Mapping[str, Value],
    x: jax.Array,
    outputs: Sequence[str] = (),
) -> tuple[jax.Array, ...]:
    """The outputs of the network for one image, for use with `jax.vmap`.

    Everything is computed in the image's dtype. Values that are known while tracing,
    such as shapes and results of parameters that are NumPy arrays, are computed by
    NumPy.

    Args:
      graph: the network.
      parameters: arrays like `graph.parameters`; outputs are differentiable by them.
      x: floating, in the shape that the file declares without its first axis.
      outputs: names of outputs of any nodes; default: the file's first output.

    Returns:
      These outputs, each without the batch axis.

    Raises:
      CheckpointError: there is no such output, the file contradicts itself, or it mixes
        the faces of a batch.
    """
    x = jnp.asarray(x)
    names = tuple(outputs) or graph.outputs[:1]
    values: dict[str, Value] = {**graph.constants, graph.input: x[None]}
    values |= {name: parameters[name].astype(x.dtype) for name in graph.parameters}
    for node in _needed(graph, names):
        values[node.outputs[0]] = _compute(graph, node, values, x.dtype)
    return tuple(_without_batch(graph, name, values[name]) for name in names)


def _needed(graph, names):
    """The nodes that these outputs depend on, in order."""
    made = {name for node in graph.nodes for name in node.outputs[:1]}
    for name in names:
        if name not in made:
            raise CheckpointError(
                f'{graph.path} has no output {name!r}; it has '
                f'{", ".join(graph.outputs)}, and the output of each node.'
            )
    wanted, nodes = set(names), []
    for node in reversed(graph.nodes):
        if wanted & set(node.outputs[:1]):
            wanted |= set(node.inputs)
            nodes.append(node)
    return nodes[::-1]


def _compute(graph, node, values, dtype):
    inputs = [values[name] if name else None for name in node.inputs]
    if not all(value is None or is_known(value) for value in inputs):
        # Otherwise they would raise the precision of values that depend on the image.
        inputs = [_cast(value, dtype) for value in inputs]
    try:
        operator = find_operator(node.operator, graph.opset)
        value = operator(*inputs, **node.attributes)
    # Faults of a file raise many kinds of error; JAX's own errors are among these.
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        shapes = [None if value is None else list(value.shape) for value in inputs]
        raise CheckpointError(
            f'{graph.path}: the node {node.name!r} ({node.operator}) cannot be '
            f'computed from inputs of the shapes {shapes} with '
            f'{dict(node.attributes)}: {error} If ONNX Runtime does not run the file '
            'either, export it again.'
        ) from error
    return np.asarray(value) if is_known(value) else _cast(value, dtype)


def _cast(value, dtype):
    """The value in this dtype, if it is floating."""
    if value is None or not jnp.issubdtype(value.dtype, jnp.floating):
        return value
    return value.astype(dtype)


def _without_batch(graph, name, value):
    if value.shape[:1] != (1,):
        raise CheckpointError(
            f'{graph.path}: the output {name!r} has the shape {list(value.shape)} for '
            'one face; expected a first axis of 1. Is a batch fixed inside the file, '
            'or is it the wrong output? Export it for a batch of 1, or set `output`.'
        )
    return jnp.asarray(value)[0]
