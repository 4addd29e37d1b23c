"""Networks applied to any number of faces, uint8 in and uint8 or features out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sicnn_jax import images
from sicnn_jax.batches import in_batches
from sicnn_jax.models import Recogniser, convolutions


def degrade_faces(hr: np.ndarray, *, scale: int, kind: str) -> np.ndarray:
    """`images.degrade` of any number of faces: uint8 → uint8."""
    return in_batches(functools.partial(_degrade, scale=scale, kind=kind), hr)


def enlarge_faces(lr: np.ndarray, *, sizes: Sequence[int] | None = None) -> np.ndarray:
    """`images.enlarge` of any number of faces: uint8 → uint8 [n, 112, 96, 3]."""
    return in_batches(_enlarge, lr, sizes)


def super_resolve(cnnh: nn.Module, params: Any, lr: np.ndarray) -> np.ndarray:
    """Hallucinated faces: uint8 [n, h, w, 3] → uint8 [n, 112, 96, 3]."""
    return in_batches(functools.partial(_super_resolve_program(), cnnh, params), lr)


def frozen(
    cnnh: nn.Module, params: Any, *, sizes: Sequence[int] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """`super_resolve` by one network, compiled for its parameters as constants.

    On a CPU, it compiles in less than half the time and runs faster: see
    `convolutions.frozen_convolution`. Each call of this function compiles again.

    Returns:
      A function from uint8 [n, h, w, 3] to uint8 [n, 112, 96, 3].
    """
    options = convolutions.inference_options()
    hallucinate = functools.partial(_hallucinate, cnnh, params)
    program = jax.jit(hallucinate, compiler_options=options)
    return functools.partial(in_batches, program, sizes=sizes)


def extract_features(
    cnnr: Recogniser,
    params: Any,
    faces: np.ndarray,
    *,
    mirror: bool = False,
    sizes: Sequence[int] | None = None,
) -> np.ndarray:
    """Identity features of any number of faces.

    Args:
      cnnr, params: the recognition network.
      faces: uint8 [n, 112, 96, 3].
      mirror: appends the features of the mirrored face, as in SphereFace's
        verification protocol.
      sizes: of batches, as in `in_batches`.

    Returns:
      float32 [n, feature_dim], or [n, 2 · feature_dim] with `mirror`.
    """
    return in_batches(functools.partial(_features, cnnr, mirror, params), faces, sizes)


# From here on, programs are compiled once for each network, however often called.
_degrade = jax.jit(images.degrade, static_argnames=('scale', 'kind'))
_enlarge = jax.jit(images.enlarge)


def _hallucinate(cnnh, params, lr):
    return images.to_levels(cnnh.apply({'params': params}, images.to_float(lr)))


@functools.cache
def _super_resolve_program():
    options = convolutions.inference_options()
    return jax.jit(_hallucinate, static_argnums=0, compiler_options=options)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _features(cnnr, mirror, params, faces):
    def apply(faces):
        return cnnr.apply({'params': params}, images.to_float(faces))

    features = apply(faces)
    if mirror:
        features = jnp.concatenate([features, apply(faces[:, :, ::-1])], axis=-1)
    return features
