"""Seconds per training step with and without huge pages for large buffers (Linux, CPU).

    python -m benchmarks.speed.huge_pages --variant=demo

glibc asks the kernel for huge pages if the environment of the process has
GLIBC_TUNABLES=glibc.malloc.hugetlb=1. XLA allocates the buffers of a step each time, so
without huge pages much of a step goes into page faults. The two take turns, each in its
own process.
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import platform
import statistics

import numpy as np

from benchmarks.measuring import append_record, in_turns, time_calls
from benchmarks.stages import prepare
from configs import di

TUNABLES = {'without': '', 'with': 'glibc.malloc.hugetlb=1'}

_update, _state, _batch = None, None, None


def set_up(variant: str, stage: str) -> None:
    """Builds a stage in this process and takes a step."""
    global _update, _state, _batch
    config = di.get_config(variant)
    config.data.source = 'procedural'
    _update, _state, _batch = prepare(config, stage)
    time_steps(1)


def time_steps(steps: int) -> list[float]:
    """Seconds of each step of what `set_up` built."""
    return time_calls(_take_step, steps)


def _take_step():
    global _state
    _state, _ = _update(_state, _batch)
    return _state


def compare(
    variant: str, stage: str, rounds: int, steps: int
) -> dict[str, list[float]]:
    """Median seconds of a step in each round, without and with."""
    context = multiprocessing.get_context('spawn')
    with contextlib.ExitStack() as stack:
        pools = {}
        for name, tunables in TUNABLES.items():
            # Read by glibc when the worker's process begins.
            os.environ['GLIBC_TUNABLES'] = tunables
            pools[name] = stack.enter_context(context.Pool(1, set_up, (variant, stage)))
            pools[name].apply(time_steps, (2,))
        timers = {
            name: functools.partial(pool.apply, time_steps, (steps,))
            for name, pool in pools.items()
        }
        return in_turns(timers, rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--variant', default='demo', help='of configs/di.py')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=10, help='per round')
    arguments = parser.parse_args()
    variant = arguments.variant
    print(f'{"stage":<20}{"without":>10}{"with":>10}{"time saved":>12}')
    for stage in ('recognition', 'hallucination', 'domain_integrated'):
        rows = compare(variant, stage, arguments.rounds, arguments.steps)
        medians = {name: statistics.median(row) for name, row in rows.items()}
        ratios = np.divide(rows['with'], rows['without']).tolist()
        saved = 1 - statistics.median(ratios)
        print(
            f'{stage:<20}{medians["without"]:8.3f} s{medians["with"]:8.3f} s'
            f'{saved:12.0%}',
            flush=True,
        )
        record = {
            'variant': variant,
            'stage': stage,
            'seconds': medians,
            'saved': saved,
            'libc': ' '.join(platform.libc_ver()),
        }
        append_record('huge_pages', record)


if __name__ == '__main__':
    main()
