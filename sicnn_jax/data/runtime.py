"""Processors, threads, and TensorFlow without GPUs, for reading and writing."""

import collections
import contextlib
import functools
import importlib.util
import os
import types
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from typing import TypeVar

_Item = TypeVar('_Item')
_Result = TypeVar('_Result')


class TensorFlowMissingError(ValueError):
    """The packages that read and write shards are not installed."""


def check_tensorflow() -> None:
    """Raises TensorFlowMissingError unless shards can be read and written."""
    if importlib.util.find_spec('tensorflow') is None:
        raise TensorFlowMissingError(
            "Data sets on disk need TensorFlow: pip install 'sicnn_jax[records]'."
        )


@functools.cache
def import_tensorflow() -> types.ModuleType:
    """TensorFlow, quiet and without accelerators: it only reads and writes files.

    Left alone, it would take all the memory of the GPUs that JAX computes on.

    Raises:
      TensorFlowMissingError: the extra `records` is not installed.
    """
    check_tensorflow()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    # oneDNN is of no use here, and announces itself in six lines at every start.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
    import tensorflow as tf

    for kind in ('GPU', 'TPU'):
        # Raised if the caller already runs TensorFlow; then it is their decision.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], kind)
    return tf


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int
) -> Generator[_Result, None, None]:
    """`map` over threads, with results in order, at most 16 items per worker ahead.

    Unlike `Executor.map`, it does not read all of `items` at once.
    """
    pool = futures.ThreadPoolExecutor(workers)
    pending: collections.deque[futures.Future[_Result]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 16 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def num_cpus() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
