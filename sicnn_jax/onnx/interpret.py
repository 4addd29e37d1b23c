"""Computing a network of an ONNX file while JAX traces."""

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
    """What the network makes of one image. Meant for `jax.vmap`.

    All is computed in the image's dtype. Values that are known while tracing, such as
    shapes, are computed by NumPy, and so are those of parameters that are NumPy arrays.

    Args:
      graph: the network.
      parameters: arrays like `graph.parameters`, to which they are differentiable.
      x: floating, the shape that the file declares but its first axis.
      outputs: names of outputs of any nodes; default: the file's first output.

    Returns:
      These, each without the batch axis.

    Raises:
      CheckpointError: there is no such output, the file contradicts itself, or it mixes
        the faces of a batch.
    """
    x = jnp.asarray(x)
    names = tuple(outputs) or graph.outputs[:1]
    values: dict[str, Value] = {**graph.constants, graph.input: x[None]}
    for name in graph.parameters:
        values[name] = parameters[name].astype(x.dtype)
    for node in _needed(graph, names):
        values[node.outputs[0]] = _compute(graph, node, values, x.dtype)
    return tuple(_without_batch(graph, name, values[name]) for name in names)


def _needed(graph, names):
    """The nodes that these outputs are made of, in order."""
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
        # Or they would raise the precision of what depends on the image.
        inputs = [_cast(value, dtype) for value in inputs]
    try:
        operator = find_operator(node.operator, graph.opset)
        value = operator(*inputs, **node.attributes)
    # What is wrong in a file shows in many ways; JAX's own errors are among these.
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
    """The same in this dtype, if it is floating."""
    if value is None or not jnp.issubdtype(value.dtype, jnp.floating):
        return value
    return value.astype(dtype)


def _without_batch(graph, name, value):
    if value.shape[:1] != (1,):
        raise CheckpointError(
            f'{graph.path}: the output {name!r} has the shape {list(value.shape)} for '
            'one face; expected 1 of the first axis. Is a batch fixed inside the file, '
            'or is it another output? Export it for a batch of 1, or name the features.'
        )
    return jnp.asarray(value)[0]
