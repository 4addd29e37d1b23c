"""Compiler options for inference."""

import functools

import jax
import jax.numpy as jnp

# The operations that XLA's CPU backend leaves to YNNPACK. By default they include
# convolutions, which run on one core if they have fewer than 128 output features.
_YNNPACK = 'xla_cpu_experimental_ynn_fusion_type'


@functools.cache
def inference_options() -> dict[str, str]:
    """Compiler options for `jax.jit` of an inference program.

    They are empty for other backends, and for releases of XLA without such an option.
    Training programs are faster without them.
    """
    options = {_YNNPACK: ''}
    if jax.default_backend() != 'cpu':
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options
