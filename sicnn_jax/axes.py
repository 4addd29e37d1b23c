"""Mapped axes over which a value differs, which `jax.shard_map` keeps count of.

It sums the gradients of what is the same on all devices by itself, which is one sum
too many for what sums or averages them again; and a custom gradient has to differ over
the same axes as what it is of. Under `pmap`, `vmap` and `shard_map(check_vma=False)`
nothing is known of it, and nothing here has an effect.
"""

from collections.abc import Collection
from typing import Any

import jax


def varying(tree: Any) -> frozenset[str]:
    """The axes over which some array of a tree is known to differ.

    Args:
      tree: of arrays, or of `jax.ShapeDtypeStruct`.
    """
    if not hasattr(jax, 'typeof'):
        return frozenset()
    return frozenset().union(*map(_varying, jax.tree.leaves(tree)))


def _varying(leaf):
    # What `jax.eval_shape` returns is a type itself.
    of = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    # Before JAX 0.10 it was `vma`.
    kind = getattr(of, 'manual_axis_type', None)
    return kind.varying if kind else getattr(of, 'vma', None) or ()


def vary(tree: Any, axes: Collection[str]) -> Any:
    """The same values, which count as different over the axes.

    The gradient by what is given is then the sum over these axes.
    """

    def one(leaf):
        missing = tuple(sorted({*axes} - varying(leaf)))
        if not missing:
            return leaf
        if hasattr(jax.lax, 'pcast'):
            return jax.lax.pcast(leaf, missing, to='varying')
        return jax.lax.pvary(leaf, missing)  # type: ignore[attr-defined]

    return jax.tree.map(one, tree)


def vary_alike(*arrays: Any) -> tuple[Any, ...]:
    """The same arrays, all of which differ over the axes over which one does."""
    return vary(arrays, varying(arrays))
