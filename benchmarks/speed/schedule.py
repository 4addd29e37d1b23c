"""How long the paper's whole schedule takes on this machine.

    python -m benchmarks.speed.schedule --iterations=200

The command takes a number of iterations of each stage of configs/di.py, at its widths
and batch sizes, as training does: faces are rendered on the device inside the step, and
nothing waits for the host. From these it extrapolates to the whole schedule. The table
also has the time of an iteration on faces that are already rendered, the operations per
second (as counted by benchmarks/counting.py, with direct convolutions, without
rendering) and their share of what a large matrix product reaches in the same format.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.measuring import append_record, markdown, matmul_gflops
from benchmarks.stages import fresh_state
from configs import di
from sicnn_jax import parallel, train
from sicnn_jax.data.dataset import open_faces
from sicnn_jax.descent import finite_networks
from tests import counting

STAGES = ('recognition', 'hallucination', 'domain_integrated')
COLUMNS = (
    'iterations',
    'batch',
    'compile, s',
    'iteration, s',
    'faces given, s',
    'TFLOP/s',
    'of matmul',
    'whole stage, min',
)


def measure(config, name: str, iterations: int) -> dict:
    """Times iterations of a stage, taken as in `train`."""
    stage = train.build_stage(config, name, Path('unused'))
    faces = open_faces(config.data, Path('unused'))
    state = fresh_state(config, stage, faces)
    together = config.steps_per_dispatch
    batches = parallel.prefetch(
        faces.train_batches(batch_size=stage.config.batch_size, seed=0),
        together=together,
    )
    calls = max(iterations // together, 1)
    update = train.dispatch(stage, faces.to_hr, together)
    state, first = _run(update, state, batches, 1)
    state, trained = _run(update, state, batches, calls)

    # The same without rendering: one batch again and again.
    drawn = next(faces.train_batches(batch_size=stage.config.batch_size, seed=0))
    given = parallel.shard(jax.tree.map(np.asarray, jax.jit(faces.to_hr)(drawn)))
    update = train.dispatch(stage, lambda batch: batch)
    state, _ = update(state, given, {})
    jax.block_until_ready(state)
    start = time.perf_counter()
    for _ in range(calls * together):
        state, _ = update(state, given, {})
    jax.block_until_ready(state)
    alone = (time.perf_counter() - start) / (calls * together)
    iteration = trained / (calls * together)
    return {
        'stage': name,
        'batch': stage.config.batch_size,
        'iterations': calls * together,
        'steps_per_dispatch': together,
        'dtype': config.cnnr.dtype,
        'compile_seconds': first - iteration * together,
        'iteration_seconds': iteration,
        'given_seconds': alone,
    }


def _run(update, state, batches, calls):
    """The state after `calls` dispatches, and the seconds they took.

    Raises:
      FloatingPointError: a step was not finite.
    """
    start = time.perf_counter()
    finite = []
    for _ in range(calls):
        state, metrics = update(state, next(batches), {})
        finite.append(finite_networks(metrics))
    jax.block_until_ready(state)
    seconds = time.perf_counter() - start
    if not all(np.all(leaf) for leaf in jax.tree.leaves(parallel.unreplicate(finite))):
        raise FloatingPointError('A step was not finite.')
    return state, seconds


def count_gflop(name: str) -> float:
    """Billions of operations of an iteration of a stage, for one face or pair."""
    function, shapes = counting.iteration(di.get_config(), name)
    return 2 * counting.multiply_adds(function, *shapes) / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--iterations', type=int, default=200)
    parser.add_argument('--steps_per_dispatch', type=int, default=1)
    parser.add_argument('--dtype', default='bfloat16')
    parser.add_argument(
        '--batch', type=int, default=0, help="of every stage; default: the paper's"
    )
    arguments = parser.parse_args()
    ceiling = matmul_gflops(arguments.dtype)
    print(f'{arguments.dtype}, matrix product: {ceiling / 1e3:.2f} TFLOP/s')
    rows, minutes = [], 0.0
    for name in STAGES:
        config = di.get_config()
        config.cnnr.dtype = config.cnnh.dtype = arguments.dtype
        config.steps_per_dispatch = arguments.steps_per_dispatch
        # An iteration of Algorithm 1 as one program, the faster way.
        config.domain_integrated.fused = True
        stage = config[name]
        iterations, paper_batch = stage.steps, stage.batch_size
        if arguments.batch:
            stage.batch_size = arguments.batch
        record = measure(config, name, arguments.iterations)
        gflops = count_gflop(name) * record['batch'] / record['iteration_seconds']
        record |= {'gflops': gflops, 'matmul_gflops': ceiling}
        append_record('schedule', record)
        # At another batch size, the time for the same number of faces.
        faces = iterations * paper_batch
        whole = faces / record['batch'] * record['iteration_seconds'] / 60
        minutes += whole
        cells = [
            f'{iterations:,}',
            f'{record["batch"]}',
            f'{record["compile_seconds"]:.1f}',
            f'{record["iteration_seconds"]:.4f}',
            f'{record["given_seconds"]:.4f}',
            f'{gflops / 1e3:.3f}',
            f'{gflops / ceiling:.0%}',
            f'{whole:,.1f}',
        ]
        rows.append((name, cells))
    print(markdown(COLUMNS, rows, 'stage'))
    print(f'The whole schedule: {minutes:,.1f} minutes')


if __name__ == '__main__':
    main()
