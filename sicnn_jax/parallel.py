"""Devices: the only file that knows how many there are.

Arrays on devices have a leading axis of one entry a local device; everything else
in the project sees them without it.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sicnn_jax.steps import AXIS

Devices = Sequence[jax.Device]


def local_devices() -> list[jax.Device]:
    """The accelerators of this process."""
    return jax.local_devices()


def process() -> tuple[int, int]:
    """Index of this process and the number of processes."""
    return jax.process_index(), jax.process_count()


def parallel(update: Callable, devices: Devices | None = None) -> Callable:
    """Maps (state, batch) → (state, metrics) over devices; the state is donated."""
    return jax.pmap(update, axis_name=AXIS, donate_argnums=0, devices=devices)


def replicate(tree: Any, devices: Devices | None = None) -> Any:
    """Copies every leaf to every device: [...] → [devices, ...]."""
    devices = devices or local_devices()
    sharding = _sharding(devices)

    def put(leaf):
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(
            (len(devices), *leaf.shape), sharding, lambda _: leaf[None]
        )

    return jax.tree.map(put, tree)


def unreplicate(tree: Any) -> Any:
    """Host copy of the first device's share: [devices, ...] → NumPy [...]."""

    # Not `leaf[0]`, which gathers from all devices and compiles a slice for each.
    def first(leaf):
        return np.asarray(leaf.addressable_shards[0].data).reshape(leaf.shape[1:])

    return jax.tree.map(first, tree)


def split(tree: Any, devices: Devices | None = None) -> Any:
    """Splits matrices over devices by their last axis: [a, n] → [devices, a, m].

    The last axis is padded with zeros to m = ⌈n / devices⌉ each. Vectors and scalars
    are replicated.
    """
    devices = devices or local_devices()
    sharding = _sharding(devices)

    def put(leaf):
        leaf = np.asarray(leaf)
        if leaf.ndim < 2:
            return replicate(leaf, devices)
        *rest, size = leaf.shape
        share = -(-size // len(devices))

        def columns(index):
            first = (index[0].start or 0) * share
            part = leaf[..., first : first + share]
            missing = share - part.shape[-1]
            return np.pad(part, [(0, 0)] * len(rest) + [(0, missing)])[None]

        return jax.make_array_from_callback(
            (len(devices), *rest, share), sharding, columns
        )

    return jax.tree.map(put, tree)


def unsplit(tree: Any, size: int) -> Any:
    """Host copy of what `split` made of matrices with a last axis of that size."""

    def join(leaf):
        if leaf.ndim < 3:
            return unreplicate(leaf)
        shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start)
        parts = [np.asarray(shard.data)[0] for shard in shards]
        return np.concatenate(parts, axis=-1)[..., :size]

    return jax.tree.map(join, tree)


def shard(batch: Any, devices: Devices | None = None, *, axis: int = 0) -> Any:
    """Splits a host batch over devices: [n, ...] → [devices, n / devices, ...].

    Args:
      batch: pytree of arrays.
      devices: those of this process by default.
      axis: of the faces; axes before it stay: 1 is [k, n, ...] → [devices, k,
        n / devices, ...].

    Raises:
      ValueError: n is not a multiple of the number of devices.
    """
    devices = devices or local_devices()
    sharding = _sharding(devices)

    def put(leaf):
        if leaf.shape[axis] % len(devices):
            raise ValueError(
                f'A batch of {leaf.shape[axis]} does not split over {len(devices)} '
                'devices: set batch_size to a multiple of their number.'
            )
        shares = (len(devices), leaf.shape[axis] // len(devices))
        leaf = leaf.reshape(*leaf.shape[:axis], *shares, *leaf.shape[axis + 1 :])
        return jax.device_put(np.moveaxis(leaf, axis, 0), sharding)

    return jax.tree.map(put, batch)


def prefetch(
    batches: Iterable[Any],
    devices: Devices | None = None,
    *,
    ahead: int = 2,
    together: int = 1,
) -> Iterator[Any]:
    """Shards batches while earlier ones are still computed on, `ahead` of them.

    With `together` above 1, so many batches are stacked: [devices, together, n /
    devices, ...].
    """
    queue = collections.deque()
    for batch in _stacked(batches, together):
        queue.append(shard(batch, devices, axis=int(together > 1)))
        if len(queue) > ahead:
            yield queue.popleft()
    yield from queue


def _stacked(batches, together):
    if together == 1:
        return batches
    groups = zip(*[iter(batches)] * together, strict=False)
    return (jax.tree.map(lambda *leaves: np.stack(leaves), *group) for group in groups)


def _sharding(devices: Devices) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS))
