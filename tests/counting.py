"""Multiply-adds of a function, counted from the shapes of its matrix products.

What the count leaves out (activations, pooling, losses) is less than 1% of what the
paper's networks do.
"""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from sicnn_jax import models, parallel, train
from sicnn_jax.train_state import TrainState


def multiply_adds(function: Callable, *args: Any, padding: bool = True) -> int:
    """Multiply-adds of the convolutions and dot products of a call.

    Args:
      function: any that JAX can trace.
      *args: arrays or their shapes.
      padding: count multiplications with the zeros around an input too, as a matrix
        product does them; else only what meets the input, as XLA counts.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr, padding)


def equations(jaxpr: Any) -> Iterator[Any]:
    """All equations of a traced program, with those of the programs inside of it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            # Of a closed jaxpr, the jaxpr.
            inner = getattr(value, 'jaxpr', value)
            if hasattr(inner, 'eqns'):
                yield from equations(inner)


def _count(jaxpr, padding):
    total = 0
    for equation in equations(jaxpr):
        name = equation.primitive.name
        if name == 'conv_general_dilated':
            total += _convolution(equation, padding)
        elif name == 'dot_general':
            total += _dot(equation)
    return total


def _dot(equation):
    lhs = equation.invars[0].aval.shape
    (contracted, _), _ = equation.params['dimension_numbers']
    size = math.prod(lhs[axis] for axis in contracted)
    return math.prod(equation.outvars[0].aval.shape) * size


def _convolution(equation, padding):
    lhs, rhs = (variable.aval.shape for variable in equation.invars)
    out = equation.outvars[0].aval.shape
    numbers = equation.params['dimension_numbers']
    total = out[numbers.out_spec[0]] * rhs[numbers.rhs_spec[0]]
    total *= rhs[numbers.rhs_spec[1]]
    for axis, (before, _) in enumerate(equation.params['padding'], start=2):
        size = lhs[numbers.lhs_spec[axis]]
        side = rhs[numbers.rhs_spec[axis]]
        places = out[numbers.out_spec[axis]]
        total *= (
            places * side
            if padding
            else sum(
                0 <= place + tap - before < size
                for place in range(places)
                for tap in range(side)
            )
        )
    return total


def forward(model: Any) -> tuple[Callable, tuple]:
    """Forward pass of a network on one face: a function and the shapes it takes."""
    is_cnnr = isinstance(model, models.CNNR)
    size = (112, 96) if is_cnnr else models.LR_SHAPES[model.scale]
    face = jax.ShapeDtypeStruct((1, *size, 3), 'float32')
    return model.apply, (jax.eval_shape(model.init, jax.random.key(0), face), face)


def iteration(config: ConfigDict, stage_name: str) -> tuple[Callable, tuple]:
    """An iteration of a stage on one face: a function and the shapes it takes."""
    stage = train.build_stage(config, stage_name, Path('unused'))
    params = {}
    for name in stage.networks:
        if name == 'class_weights':
            size = (config.cnnr.feature_dim, config.data.identities)
            params[name] = jax.ShapeDtypeStruct(size, 'float32')
        else:
            _, (variables, _) = forward(getattr(stage.recipe, name))
            params[name] = variables['params']
    create = functools.partial(TrainState.create, optimizers=stage.recipe.optimizers)
    batch = {
        'hr': jax.ShapeDtypeStruct((1, 112, 96, 3), 'uint8'),
        'label': jax.ShapeDtypeStruct((1,), 'int32'),
    }
    if stage.rule.taught:
        size = (1, stage.recipe.cnnr.feature_dim)
        batch['target'] = jax.ShapeDtypeStruct(size, 'float32')
    # Mapped over a single device, for the named axis.
    program = stage.rule.fused or stage.rule.programs[0]
    update = parallel.map_over_devices(
        functools.partial(program, stage.recipe), jax.devices()[:1]
    )
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype),
        (jax.eval_shape(create, params), batch),
    )
    return update, shapes
