"""Convolutions: exact, and computed in the fastest of several ways.

`convolution` and `transposed_convolution` choose the way by backend and shape.
benchmarks/speed/convolutions.py measures the choices, and benchmarks/speed/inference.py
the choices for constant kernels, with `inference_options`.
"""

from sicnn_jax.models.convolutions.choose import (
    convolution,
    on_any_backend,
    use_winograd,
)
from sicnn_jax.models.convolutions.compiler_options import inference_options
from sicnn_jax.models.convolutions.patches import (
    image_convolution,
    patch_convolution,
    tap_convolution,
)
from sicnn_jax.models.convolutions.transposed import transposed_convolution
from sicnn_jax.models.convolutions.winograd import (
    frozen_convolution,
    winograd_convolution,
)

__all__ = [
    'convolution',
    'frozen_convolution',
    'image_convolution',
    'inference_options',
    'on_any_backend',
    'patch_convolution',
    'tap_convolution',
    'transposed_convolution',
    'use_winograd',
    'winograd_convolution',
]
