"""Values while a network is traced: known ones from NumPy, and JAX's own.

A value computed from known values alone is known as well; shapes must be known.
"""

from collections.abc import Sequence
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

Value = np.ndarray | jax.Array


def is_known(*values: Value | None) -> bool:
    """Whether none of them depends on the image or on a traced parameter."""
    return not any(isinstance(value, jax.Array) for value in values)


def module_of(*values: Value | None) -> ModuleType:
    """The module that computes with them: `numpy` or `jax.numpy`."""
    return np if is_known(*values) else jnp


def integers(value: Value | Sequence[int]) -> tuple[int, ...]:
    """Known integers, such as a shape or axes.

    Raises:
      ValueError: the value depends on the image.
    """
    if isinstance(value, jax.Array):
        raise ValueError('A shape or an index in it depends on the image content.')
    return tuple(int(number) for number in np.ravel(value))
