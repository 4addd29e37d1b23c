"""The engine under the updates: one step of some networks against an objective.

An update is written for the batch of one device under a named axis 'batch', over which
gradients and metrics are averaged; `parallel.py` maps it over the devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sicnn_jax.axes import vary, varying
from sicnn_jax.recipe import Recipe
from sicnn_jax.train_state import Network, TrainState

__all__ = [
    'AXIS',
    'Iteration',
    'Metrics',
    'Updated',
    'counted',
    'descend',
    'finite_networks',
    'in_parts',
    'merge_metrics',
    'without_finite',
]

AXIS = 'batch'

Metrics = dict[str, jax.Array]
Updated = tuple[TrainState, Metrics]
# (recipe, state, batch) → (state, metrics)
Iteration = Callable[..., Updated]

_FINITE = '_finite'


def descend(
    recipe: Recipe,
    state: TrainState,
    names: tuple[str, ...],
    objective: Callable[[dict[str, Any], Any], tuple[jax.Array, Metrics]],
    batch: Any,
) -> Updated:
    """One step of the named networks, unless loss or gradient is not finite.

    Args:
      recipe: provides optimisers, `microbatches` and `split_identities`.
      state: with the named networks.
      names: of the networks to update.
      objective: (params of these, part of the batch) → (loss, metrics), both means
        over the faces of the part.
      batch: arrays with a leading axis of faces.

    Returns:
      The state with these networks updated (`step` unchanged); the metrics of the
      objective, and for each network 'NAME_gradient_norm' and 'NAME_finite': 1, or 0
      where the step was not applied.

    Raises:
      ValueError: no axis 'batch' is mapped, or the state lacks a network.
    """
    _check_mapped()
    missing = [name for name in names if name not in state.networks]
    if missing:
        raise ValueError(
            f'The state has no network {", ".join(missing)} to update; it has '
            f'{", ".join(state.networks)}.'
        )
    before = {name: state.networks[name] for name in names}
    axes = varying(batch)
    # Marked as this device's own; otherwise JAX would sum their gradients by itself.
    params = vary({name: network.params for name, network in before.items()}, axes)

    def of_this_device(params, part):
        return vary(objective(params, part), axes)

    differentiate = jax.value_and_grad(of_this_device, has_aux=True)
    (loss, metrics), gradients = _mean_over_parts(
        functools.partial(differentiate, params), batch, recipe.microbatches
    )
    # The gradient of the local loss is averaged: differentiating an averaged loss
    # would count every device twice.
    loss, metrics = _mean_over_devices((loss, metrics))
    reduced = {
        name: _reduce(gradient, recipe.split_identities and name == 'class_weights')
        for name, gradient in gradients.items()
    }
    norms = {name: norm for name, (_, norm) in reduced.items()}
    finite = jnp.isfinite(loss) & jnp.all(jnp.isfinite(jnp.stack([*norms.values()])))

    def stepped(networks):
        return {
            name: _stepped(recipe.optimizers[name], network, *reduced[name])
            for name, network in networks.items()
        }

    networks = {**state.networks, **_changed_if(finite, stepped, before)}
    metrics |= {f'{name}_gradient_norm': norm for name, norm in norms.items()}
    metrics |= {f'{name}{_FINITE}': finite.astype(jnp.float32) for name in names}
    return dataclasses.replace(state, networks=networks), metrics


def counted(iteration: Iteration) -> Iteration:
    """Makes an iteration add 1 to the state's `step`.

    Updates do not count, so that an iteration may call one twice. λ and the learning
    rates are functions of the step.
    """

    def one(recipe, state, batch):
        state, metrics = iteration(recipe, state, batch)
        return dataclasses.replace(state, step=state.step + 1), metrics

    return one


def merge_metrics(*updates: Metrics) -> Metrics:
    """Metrics of an iteration that calls an update twice.

    A network's step counts as finite if each of its updates was; of other metrics, the
    last value stays.
    """
    merged: Metrics = {}
    for metrics in updates:
        for key, value in metrics.items():
            twice = key in merged and key.endswith(_FINITE)
            merged[key] = jnp.minimum(value, merged[key]) if twice else value
    return merged


def finite_networks(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Network → whether its step was finite, and applied, from an iteration's metrics.

    The metrics are host values, or arrays of several steps.
    """
    return {
        key.removesuffix(_FINITE): value != 0
        for key, value in metrics.items()
        if key.endswith(_FINITE)
    }


def without_finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics except those of `finite_networks`."""
    return {key: value for key, value in metrics.items() if not key.endswith(_FINITE)}


def in_parts(
    function: Callable[[jax.Array], jax.Array], batch: jax.Array, count: int
) -> jax.Array:
    """function(batch), computed in `count` parts, one after the other."""
    if count == 1:
        return function(batch)
    parts = _parts(batch, count)
    _, results = _one_by_one(lambda _, part: (None, function(part)), None, parts)
    return results.reshape(len(batch), *results.shape[2:])


def _parts(batch: Any, count: int) -> Any:
    """[n, ...] → [count, n / count, ...] of every leaf."""
    return jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)


def _one_by_one(function: Callable[[Any, Any], Any], start: Any, parts: Any) -> Any:
    """`jax.lax.scan`, unrolled on a CPU, where convolutions in a loop are slow."""
    # So on a CPU, parts save no memory.
    return jax.lax.scan(function, start, parts, unroll=jax.default_backend() == 'cpu')


def _check_mapped():
    try:
        jax.lax.axis_index(AXIS)
    except NameError as error:
        raise ValueError(
            f'An update averages over a mapped axis named {AXIS!r}, but there is none: '
            'call it by sicnn_jax.parallel.on_one_device or map_over_devices, or map '
            'that axis yourself.'
        ) from error


def _stepped(optimizer, network, gradient, norm):
    """A network after a step of its optimiser, which is told the gradient's norm."""
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        gradient, network.opt_state, network.params, gradient_norm=norm
    )
    return Network(optax.apply_updates(network.params, updates), opt_state)


def _changed_if(condition: jax.Array, change: Callable[[Any], Any], tree: Any) -> Any:
    """The changed tree if the condition holds, or else the tree as it is.

    On a CPU this is a branch, in which the result overwrites the tree; a selection
    between both would take another copy. An accelerator would wait for the branch.
    """
    if jax.default_backend() == 'cpu':
        return jax.lax.cond(condition, change, lambda tree: tree, tree)
    return jax.tree.map(
        lambda new, old: jnp.where(condition, new, old), change(tree), tree
    )


def _mean_over_parts(function: Callable[[Any], Any], batch: Any, count: int) -> Any:
    """The mean of a function's results over the parts, one part at a time."""
    if count == 1:
        return function(batch)
    parts = _parts(batch, count)

    def zeros(leaf):
        return vary(jnp.zeros(leaf.shape, leaf.dtype), varying(leaf))

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(part)), None

    one = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], parts))
    total, _ = _one_by_one(add, jax.tree.map(zeros, one), parts)
    return jax.tree.map(lambda leaf: leaf / count, total)


def _reduce(gradient: Any, split: bool) -> tuple[Any, jax.Array]:
    """The gradient of the objective of all devices, and its norm."""
    if not split:
        gradient = _mean_over_devices(gradient)
        return gradient, optax.global_norm(gradient)
    # Each device has the gradient of its own identities, in which the faces of every
    # device count once.
    gradient = jax.tree.map(lambda leaf: leaf / jax.lax.psum(1, AXIS), gradient)
    squared = jnp.square(optax.global_norm(gradient))
    return gradient, jnp.sqrt(jax.lax.psum(squared, AXIS))


def _mean_over_devices(tree: Any) -> Any:
    """`jax.lax.pmean`, skipped for a single device: XLA would still copy and divide."""
    alone = jax.lax.psum(1, AXIS) == 1 and AXIS not in varying(tree)
    return tree if alone else jax.lax.pmean(tree, AXIS)
