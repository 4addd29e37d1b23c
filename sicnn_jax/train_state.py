"""The one pytree that training carries from step to step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import flax
import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    # Opening a finished run needs no optimiser.
    import optax

__all__ = ['Network', 'TrainState']


@flax.struct.dataclass
class Network:
    """Parameters of one network and the state of its optimiser.

    A network that a stage keeps frozen has the optimiser state `()`.
    """

    params: Any
    opt_state: Any = ()


@flax.struct.dataclass
class TrainState:
    """Step and named networks: 'cnnr', 'class_weights', 'cnnh', 'discriminator'.

    `step` counts the iterations of the stage, int32 []. The learning rates, λ and the
    data are functions of it, so nothing else is needed to continue.
    """

    step: jax.Array
    networks: dict[str, Network]

    @classmethod
    def create(
        cls,
        params: Mapping[str, Any],
        optimizers: Mapping[str, 'optax.GradientTransformation'],
    ) -> 'TrainState':
        """State at step 0; networks without an optimiser stay frozen."""
        return cls(
            step=jnp.zeros((), jnp.int32),
            networks={
                name: Network(
                    value, optimizers[name].init(value) if name in optimizers else ()
                )
                for name, value in params.items()
            },
        )

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of every network, by name."""
        return {name: network.params for name, network in self.networks.items()}
