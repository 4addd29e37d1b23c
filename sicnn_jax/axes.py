"""The mapped axes over which a value differs, as `jax.shard_map` tracks them.

It sums the gradients of values that are the same on all devices, which is one sum too
many for code that sums or averages them again. And a custom gradient must differ over
the same axes as its input. `pmap`, `vmap` and `shard_map(check_vma=False)` do not track
axes, so nothing in this module has an effect there.
"""

from collections.abc import Collection
from typing import Any

import jax


def varying(tree: Any) -> frozenset[str]:
    """Axes over which an array or `ShapeDtypeStruct` of a tree is known to differ."""
    if not hasattr(jax, 'typeof'):
        return frozenset()
    return frozenset().union(*map(_varying, jax.tree.leaves(tree)))


def _varying(leaf):
    # The results of `jax.eval_shape` are types themselves.
    of = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    # Before JAX 0.10, it was `vma`.
    kind = getattr(of, 'manual_axis_type', None)
    return kind.varying if kind else getattr(of, 'vma', None) or ()


def vary(tree: Any, axes: Collection[str]) -> Any:
    """The same values, marked as different over the axes.

    The gradient by the given values is then the sum over these axes.
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
    """The same arrays, all marked as different over the axes where any one is."""
    return vary(arrays, varying(arrays))
