"""SICNN: Super-Identity CNN for face hallucination (ECCV 2018) in JAX/Flax."""

import importlib
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sicnn_jax import algorithm, images, inference, losses, metrics, models

    __version__: str

__all__ = ['algorithm', 'images', 'inference', 'losses', 'metrics', 'models']


def __getattr__(name: str) -> ModuleType | str:
    # Imported on first use, since a command needs few of them.
    if name in __all__:
        return importlib.import_module(f'sicnn_jax.{name}')
    if name == '__version__':
        return metadata.version('sicnn_jax')
    raise AttributeError(f"module 'sicnn_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, '__version__']
