"""Devices and processes: the only file that knows how many there are.

Arrays on devices have a leading axis with one entry per local device; everything else
in the project sees them without it.
"""

import collections
import contextlib
import functools
import inspect
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sicnn_jax.descent import AXIS
from sicnn_jax.train_state import TrainState

__all__ = [
    'Devices',
    'any_asked',
    'connect',
    'disconnect',
    'divide_cpu',
    'first_before_others',
    'from_first',
    'is_first',
    'is_of_lost_process',
    'local_devices',
    'map_over_devices',
    'on_one_device',
    'prefetch',
    'process',
    'replicate',
    'shard',
    'split',
    'to_devices',
    'to_host',
    'unreplicate',
    'unsplit',
    'wait',
]

Devices = Sequence[jax.Device]

_FORCED_DEVICES = '--xla_force_host_platform_device_count'
# Seconds after which a silent process counts as dead, and all end.
_HEARTBEAT = 30
# Seconds in which all processes must begin; between two notes that some are missing;
# and before the first note.
_PATIENCE, _NOTE, _AT_ONCE = 300, 60, 5
# Variables that tell JAX about several processes, and which one this is.
_CLUSTER = re.compile(
    'JAX_(COORDINATOR_ADDRESS|NUM_PROCESSES|PROCESS_ID)'
    '|SLURM_(JOB_ID|STEP_NODELIST|NTASKS|PROCID)'
    '|OMPI_COMM_WORLD_(SIZE|RANK)|PMI_(SIZE|RANK)'
    '|TPU_WORKER_(HOSTNAMES|ID)|MEGASCALE_.*|JOB_COMPLETION_INDEX'
)
# Steps until all processes know that one was asked. Waiting for the answer in the same
# step would also keep the devices waiting.
_LAG = 2
# Names in JAX's errors when communication fails, on CPUs and on GPUs.
_COLLECTIVE = re.compile(r'\b(Gloo|NCCL)\b|[Cc]oordination service')
# A matrix goes from process to process in pieces of this many bytes: JAX copies
# everything it sends to every device, and a split matrix may not fit on one of them.
_PIECE = 2**26


def divide_cpu(count: int) -> None:
    """Makes `count` devices of a CPU's cores; has no effect once a device is in use.

    0 leaves the number to JAX and XLA_FLAGS, as does a number in XLA_FLAGS.
    """
    if count and _FORCED_DEVICES not in os.environ.get('XLA_FLAGS', ''):
        # The devices of this process are in use: they stay as they are.
        with contextlib.suppress(RuntimeError):
            jax.config.update('jax_num_cpu_devices', count)


def connect() -> None:
    """Joins the other processes of the run, if any; call it before using a device.

    They are given by JAX_COORDINATOR_ADDRESS (host:port of the first one),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID, or by the TPU pod, SLURM step, MPI or
    Kubernetes job that JAX detects. With JAX_NUM_PROCESSES=1, this process stays alone.

    It waits for all of them, five minutes at most, and prints that it does.

    Raises:
      ValueError: one of the variables is missing or not a number, this is one of
        several pods that JAX cannot connect, or another process did not join.
    """
    names = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
    address, count, index = (os.environ.get(name) for name in names)
    # A TPU host names its peers, and whether it has any.
    hosts = os.environ.get('TPU_WORKER_HOSTNAMES')
    if count == '1' or (address is None and hosts is not None and ',' not in hosts):
        return
    settings: dict[str, Any] = {}
    if address is not None and (count or index):
        try:
            # An unset variable is not a number either.
            settings = {
                'num_processes': int(count or ''),
                'process_id': int(index or ''),
            }
        except ValueError as error:
            raise ValueError(
                f'JAX_NUM_PROCESSES is {count!r} and JAX_PROCESS_ID {index!r}; '
                'expected numbers: start the processes by launch/, or set all of '
                f'{", ".join(names)}.'
            ) from error
    tasks = os.environ.get('SLURM_NTASKS')
    if tasks is not None and tasks == os.environ.get('SLURM_NNODES'):
        # JAX would give each SLURM task one GPU; a single task per node gets all.
        settings['local_device_ids'] = []
    limits = {
        'heartbeat_timeout_seconds': _HEARTBEAT,
        # JAX's timeout comes after ours.
        'initialization_timeout': _PATIENCE + _NOTE,
    }
    # In older versions of JAX, they are constants.
    known = inspect.signature(jax.distributed.initialize).parameters
    settings |= {name: limits[name] for name in limits if name in known}
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    if hasattr(jax.config, 'jax_enable_preemption_service'):
        # The service would catch SIGTERM, which `any_asked` passes to all processes.
        jax.config.update('jax_enable_preemption_service', False)
    try:
        _initialize(address, settings)
    except ValueError as error:
        # JAX detects no cluster.
        if address is None and 'coordinator_address' in str(error):
            _refuse_unconnected_pods()
            return
        raise


def _initialize(address, settings):
    """`jax.distributed.initialize` with messages; JAX's waits silently, then aborts."""
    raised: list[BaseException] = []

    def work():
        try:
            jax.distributed.initialize(address, **settings)
        except BaseException as error:
            raised.append(error)

    # In a thread, so that this one can print and be interrupted.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    begun = time.monotonic()
    thread.join(_AT_ONCE)
    while thread.is_alive():
        waited = time.monotonic() - begun
        told = ', '.join(
            f'{name}={value}'
            for name, value in sorted(os.environ.items())
            if _CLUSTER.fullmatch(name)
        )
        if waited >= _PATIENCE:
            raise ValueError(
                f'The other processes of this run did not join in {waited:.0f} s '
                f'({told}). Start all of them at once, by srun or launch/, with a '
                'JAX_COORDINATOR_ADDRESS that each can reach; if there are no others, '
                'as in an interactive shell, set JAX_NUM_PROCESSES=1.'
            )
        print(
            f'Waiting for the other processes of this run ({told}). If there are '
            'none, as in an interactive shell, stop it and set JAX_NUM_PROCESSES=1.',
            flush=True,
        )
        thread.join(min(_NOTE, _PATIENCE - waited))
    if raised:
        raise raised[0]


def _refuse_unconnected_pods():
    """Refuses pods that would each train alone and all write the same files."""
    if 'JOB_COMPLETION_INDEX' in os.environ and 'KUBERNETES_PORT' in os.environ:
        raise ValueError(
            'This is a pod of an indexed Kubernetes job, but JAX cannot find the '
            "others: pip install 'jax[k8s]', set JAX_COORDINATOR_ADDRESS, "
            'JAX_NUM_PROCESSES and JAX_PROCESS_ID, or, if there are no others, '
            'JAX_NUM_PROCESSES=1.'
        )


def disconnect() -> None:
    """Leaves the other processes; one of them does the rest, which may take long."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def is_of_lost_process(error: BaseException) -> bool:
    """Whether an error says that other processes failed to do their part."""
    return bool(_COLLECTIVE.search(str(error)))


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Waits until all processes have reached this point."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def first_before_others(name: str) -> Iterator[None]:
    """Lets the first process run the block before the others, which find its files."""
    if not is_first():
        wait(name)
    yield
    if is_first():
        wait(name)


def from_first(tree: Any) -> Any:
    """Host arrays of the first process, copied to all."""
    if jax.process_count() == 1:
        return tree
    send = functools.partial(_in_pieces, multihost_utils.broadcast_one_to_all)
    return jax.tree.map(send, tree)


def any_asked(asked: Callable[[], bool]) -> Callable[[], bool]:
    """Whether any process was asked, with the same answer in all of them.

    Each must call it equally often. With several processes, the answer is from a few
    calls ago.
    """
    if jax.process_count() == 1:
        return asked
    together = jax.pmap(lambda flag: jax.lax.pmax(flag, AXIS), axis_name=AXIS)
    answers: collections.deque[Any] = collections.deque()

    def any_of_all():
        answers.append(together(replicate(np.int32(asked()))))
        return len(answers) > _LAG and bool(unreplicate(answers.popleft()))

    return any_of_all


def local_devices() -> list[jax.Device]:
    """The accelerators of this process."""
    return jax.local_devices()


def process() -> tuple[int, int]:
    """Index of this process and the number of processes."""
    return jax.process_index(), jax.process_count()


def map_over_devices(update: Callable, devices: Devices | None = None) -> Callable:
    """Maps (state, batch) → (state, metrics) over devices; the state is donated."""
    return jax.pmap(update, axis_name=AXIS, donate_argnums=0, devices=devices)


def on_one_device(update: Callable) -> Callable:
    """Compiles (state, batch) → (state, metrics) for one device, without an axis.

    It is for your own loops: arrays go in and come out as they are. Nothing is donated,
    so the input state stays valid.
    """

    def alone(state, batch):
        stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], batch)
        mapped = jax.vmap(update, in_axes=(None, 0), axis_name=AXIS)
        return jax.tree.map(lambda leaf: leaf[0], mapped(state, stacked))

    return jax.jit(alone)


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

    # `leaf[0]` would gather from all devices and compile a slice for each.
    def first(leaf):
        return np.asarray(leaf.addressable_shards[0].data).reshape(leaf.shape[1:])

    return jax.tree.map(first, tree)


def split(tree: Any, devices: Devices | None = None) -> Any:
    """Splits matrices over devices by their last axis: [a, n] → [devices, a, m].

    The last axis is padded with zeros to m = ⌈n / d⌉ each, where d is the number of
    devices of all processes; this process gets the shares of its own devices. Vectors
    and scalars are replicated.
    """
    devices = devices or local_devices()
    sharding = _sharding(devices)
    index, count = process()
    before = index * len(devices)

    def put(leaf):
        leaf = np.asarray(leaf)
        if leaf.ndim < 2:
            return replicate(leaf, devices)
        *rest, size = leaf.shape
        share = -(-size // (count * len(devices)))

        def columns(index):
            first = (before + (index[0].start or 0)) * share
            part = leaf[..., first : first + share]
            missing = share - part.shape[-1]
            return np.pad(part, [(0, 0)] * len(rest) + [(0, missing)])[None]

        return jax.make_array_from_callback(
            (len(devices), *rest, share), sharding, columns
        )

    return jax.tree.map(put, tree)


def unsplit(tree: Any, size: int) -> Any:
    """Host copy of the matrices, with a last axis of that size, that `split` split.

    It gathers from all processes, each of which must call it.
    """

    def join(leaf):
        if leaf.ndim < 3:
            return unreplicate(leaf)
        shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start)
        parts = np.stack([np.asarray(shard.data)[0] for shard in shards])
        if jax.process_count() > 1:
            gather = functools.partial(multihost_utils.process_allgather, tiled=True)
            parts = _in_pieces(gather, parts, jax.process_count())
        return np.concatenate(list(parts), axis=-1)[..., :size]

    return jax.tree.map(join, tree)


def to_devices(
    state: TrainState, devices: Devices | None = None, *, split_identities: bool = False
) -> TrainState:
    """Copies a whole state from the host to the devices, as the updates take it.

    `split_identities` splits the class weights, see `split`; the rest is replicated.
    """
    replicated = functools.partial(replicate, devices=devices)
    shares = functools.partial(split, devices=devices)
    return _by_network(state, replicated, shares if split_identities else replicated)


def to_host(state: TrainState, *, num_identities: int | None = None) -> TrainState:
    """The inverse of `to_devices`; all processes must call it.

    If the class weights are split, it needs the data's number of identities.
    """
    if num_identities is None:
        return unreplicate(state)
    join = functools.partial(unsplit, size=num_identities)
    return _by_network(state, unreplicate, join)


def _by_network(state, move, move_class_weights):
    return TrainState(
        step=move(state.step),
        networks={
            name: (move_class_weights if name == 'class_weights' else move)(network)
            for name, network in state.networks.items()
        },
    )


def shard(batch: Any, devices: Devices | None = None, *, axis: int = 0) -> Any:
    """Splits a host batch over devices: [n, ...] → [devices, n / devices, ...].

    Args:
      batch: pytree of arrays.
      devices: by default those of this process.
      axis: of the faces; axes before it stay: 1 means [k, n, ...] → [devices, k,
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
    batches: Iterable[Any], *, ahead: int = 2, together: int = 1
) -> Iterator[Any]:
    """Shards up to `ahead` batches while earlier ones are still being computed on.

    With `together` above 1, that many batches are stacked: [devices, together, n /
    devices, ...].
    """
    queue: collections.deque[Any] = collections.deque()
    for batch in _stacked(batches, together):
        queue.append(shard(batch, axis=int(together > 1)))
        if len(queue) > ahead:
            yield queue.popleft()
    yield from queue


def _stacked(batches, together):
    if together == 1:
        return batches
    groups = zip(*[iter(batches)] * together, strict=False)
    return (jax.tree.map(lambda *leaves: np.stack(leaves), *group) for group in groups)


def _in_pieces(communicate, leaf, copies=1):
    """Applies a collective to an array, in pieces of its last axis.

    The result of each piece is `copies` times as large.
    """
    leaf = np.asarray(leaf)
    pieces = min(-(-leaf.nbytes * copies // _PIECE), leaf.shape[-1] if leaf.ndim else 1)
    if pieces <= 1:
        return np.asarray(communicate(leaf))
    # All pieces but the last have the same size, so two programs are enough.
    size = -(-leaf.shape[-1] // pieces)
    starts = range(0, leaf.shape[-1], size)
    parts = [np.asarray(communicate(leaf[..., i : i + size])) for i in starts]
    return np.concatenate(parts, axis=-1)


def _sharding(devices: Devices) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS))
