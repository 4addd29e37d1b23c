"""Starts JAX's devices, and says in words why they cannot be started."""

import os

import jax

from sicnn_jax.errors import DeviceError

__all__ = ['start']


def start() -> None:
    """Starts the devices of this process; of no effect where they are started.

    Whoever reads what computes begins with it: else its error would come from the
    middle of something else, and be taken for an error of that.

    Raises:
      DeviceError: there are none of the kind that JAX is told to use.
    """
    try:
        jax.process_index()
    # Of a platform that JAX knows and this installation lacks, it is bare.
    except (AssertionError, RuntimeError) as error:
        asked = os.environ.get('JAX_PLATFORMS') or jax.config.values['jax_platforms']
        reason = f': {error}' if str(error) else ''
        raise DeviceError(
            f'JAX cannot start its devices (JAX_PLATFORMS={asked or ""}){reason}. '
            'Install JAX for that device, see docs/scale_out.md, or unset '
            'JAX_PLATFORMS to compute on what there is.'
        ) from error
