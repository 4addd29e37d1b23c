"""How XLA is told to compile an inference."""

import functools

import jax
import jax.numpy as jnp

# What XLA's CPU leaves to YNNPACK: by default its convolutions, too, which are computed
# by one core where output features are fewer than 128.
_YNNPACK = 'xla_cpu_experimental_ynn_fusion_type'


@functools.cache
def inference_options() -> dict[str, str]:
    """Compiler options for `jax.jit` of an inference.

    Empty for other backends, and for releases of XLA that have no such option. Programs
    of training are faster without.
    """
    options = {_YNNPACK: ''}
    if jax.default_backend() != 'cpu':
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options
