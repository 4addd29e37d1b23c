"""Our updates and inference compared with PyTorch, at the paper's widths.

    pip install torch
    python -m benchmarks.speed.against_pytorch --batch=8 --rounds=5

Each side runs in its own process. The rounds alternate: one side waits while the other
computes. Both start from the same parameters and faces, and must agree on the loss (or
the picture) before anything is timed. Compile time is reported separately. PyTorch runs
as it is and through torch.compile, on a GPU if there is one, and with --dtype=bfloat16
in automatic mixed precision. The last columns are our billions of operations per second
(as counted by benchmarks/counting.py for direct convolutions) and those of a large
matrix product on the same machine.
"""

import argparse
import functools
import multiprocessing
import os
import statistics
import tempfile
import time
from importlib import metadata

import jax
import numpy as np

from benchmarks.measuring import append_record, matmul_gflops, time_calls
from benchmarks.stages import prepare
from configs import di
from sicnn_jax import images, inference, models, parallel
from sicnn_jax.models import convolutions
from tests import counting

WORKS = {
    'cnnr_update': 'recognition',
    'cnnh_update': 'hallucination',
    'di_iteration': 'domain_integrated',
    'cnnh_inference': 'hallucination',
}
SIDES = ('ours', 'pytorch', 'pytorch_compiled')
# Largest relative difference of the losses.
_TOLERANCES = {'float32': 2e-3, 'bfloat16': 3e-2}

_step = None


def set_up(
    side: str, work: str, batch: int, path: str, dtype: str
) -> tuple[float, float]:
    """Builds one side of a work in this process and runs it once.

    Our side writes the parameters and faces to the path; the others read them.

    Returns:
      The loss (or mean picture) of the first step, and its seconds.
    """
    global _step
    if side == 'ours':
        _step = _ours(work, batch, path, dtype)
    else:
        _step = _pytorch(side, work, path, dtype)
    start = time.perf_counter()
    value = _step()
    return value, time.perf_counter() - start


def time_steps(steps: int) -> list[float]:
    """Seconds of each step of what `set_up` built, after an untimed step.

    The first step after the other sides' turn finds cold caches and returned memory.
    """
    _step()
    return time_calls(_step, steps)


def _ours(work, batch, path, dtype):
    stage_name = WORKS[work]
    config = di.get_config()
    config.cnnr.dtype = config.cnnh.dtype = dtype
    # An iteration of Algorithm 1 as one program, the faster way.
    config.domain_integrated.fused = True
    stage = config[stage_name]
    stage.batch_size = batch
    if 'annealing' in stage:
        stage.annealing.base = stage.annealing.minimum
    for optimizer in stage.optimizer.values():
        optimizer.learning_rate, optimizer.warmup_steps = 1e-4, 0
        optimizer.weight_decay = 5e-4
    update, state, faces = prepare(config, stage_name)
    params = parallel.unreplicate(state).params
    np.savez(path, params=params, **parallel.unreplicate(faces))
    if work == 'cnnh_inference':
        # With constant parameters, as `inference.frozen`.
        apply = functools.partial(
            models.CNNH(dtype=dtype).apply, {'params': params['cnnh']}
        )
        cnnh = jax.jit(apply, compiler_options=convolutions.inference_options())
        lr = images.to_float(_degrade(parallel.unreplicate(faces)['hr']))

        def infer():
            return float(np.asarray(cnnh(lr)).mean())

        return infer

    def step():
        nonlocal state
        state, metrics = jax.block_until_ready(update(state, faces))
        metrics = parallel.unreplicate(metrics)
        if work == 'cnnr_update':
            return float(metrics['recognition_loss'])
        identity = metrics.get('super_identity_loss', 0.0)
        return float(metrics['super_resolution_loss'] + 8 * identity)

    return step


def _pytorch(side, work, path, dtype):
    # A worker of a pool must not have children, which would compile.
    os.environ['TORCHINDUCTOR_COMPILE_THREADS'] = '1'
    import torch

    from benchmarks import pytorch_twin

    torch.set_num_threads(os.cpu_count())
    with np.load(path, allow_pickle=True) as file:
        params = file['params'].item()
        hr, labels = file['hr'], torch.from_numpy(file['label'].astype(np.int64))
    labels = labels.to(pytorch_twin.DEVICE)
    lr = pytorch_twin.to_twin(images.to_float(_degrade(hr)))
    hr = pytorch_twin.to_twin(images.to_float(hr))
    compiled = side == 'pytorch_compiled'
    updates = pytorch_twin.Updates(params, compiled=compiled, dtype=dtype)
    return {
        'cnnh_inference': lambda: float(updates.infer(lr).mean()),
        'cnnr_update': lambda: updates.recognition(hr, labels),
        'cnnh_update': lambda: updates.hallucination(lr, hr),
        'di_iteration': lambda: updates.domain_integrated(lr, hr, labels),
    }[work]


def _degrade(hr):
    return inference.degrade_faces(hr, scale=8, kind='bicubic')


def count_gflop(work: str) -> float:
    """Billions of operations of a work for one face (or pair)."""
    if work == 'cnnh_inference':
        function, shapes = counting.forward(models.CNNH(dtype='bfloat16'))
    else:
        function, shapes = counting.iteration(di.get_config(), WORKS[work])
    return 2 * counting.multiply_adds(function, *shapes) / 1e9


def compare(work: str, batch: int, rounds: int, steps: int, dtype: str) -> dict:
    """Times all sides of a work in turn.

    Returns:
      The record: medians, the median of the rounds' ratios, compile times.

    Raises:
      AssertionError: the sides do not compute the same.
    """
    context = multiprocessing.get_context('spawn')
    pools = {side: context.Pool(1) for side in SIDES}
    seconds = {side: [] for side in SIDES}
    try:
        with tempfile.TemporaryDirectory() as directory:
            path = f'{directory}/twin.npz'
            first = {
                side: pool.apply(set_up, (side, work, batch, path, dtype))
                for side, pool in pools.items()
            }
        for side, (value, _) in first.items():
            np.testing.assert_allclose(
                value,
                first['ours'][0],
                rtol=_TOLERANCES[dtype],
                atol=1e-5,
                err_msg=side,
            )
        for _ in range(rounds):
            for side, pool in pools.items():
                seconds[side].append(
                    statistics.median(pool.apply(time_steps, (steps,)))
                )
    finally:
        for pool in pools.values():
            pool.terminate()
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    ratios = {
        side: statistics.median(np.divide(seconds[side], seconds['ours']).tolist())
        for side in SIDES
    }
    return {
        'work': work,
        'batch': batch,
        'seconds': medians,
        'times_ours': ratios,
        'compile_seconds': {
            side: first[side][1] - medians[side] for side in ('ours', SIDES[-1])
        },
        'values': {side: value for side, (value, _) in first.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=3, help='per round')
    parser.add_argument('--works', default=','.join(WORKS), help='default: all')
    parser.add_argument('--dtype', choices=_TOLERANCES, default='float32')
    arguments = parser.parse_args()
    dtype = arguments.dtype
    about = {
        'dtype': dtype,
        'rounds': arguments.rounds,
        'glibc_tunables': os.environ.get('GLIBC_TUNABLES', ''),
        'torch': metadata.version('torch'),
    }
    print(f'batch {arguments.batch}; images/s, and time as a multiple of ours')
    ceiling = matmul_gflops(dtype)
    titles = ''.join(f'{side:>24}' for side in SIDES)
    print(f'{"work":<16}{titles}{"GFLOP/s":>10}{"matmul":>8}')
    for work in arguments.works.split(','):
        record = compare(
            work, arguments.batch, arguments.rounds, arguments.steps, dtype
        )
        cells = [
            f'{arguments.batch / record["seconds"][side]:.2f}'
            f'  (×{record["times_ours"][side]:.2f})'
            for side in SIDES
        ]
        reached = count_gflop(work) * arguments.batch / record['seconds']['ours']
        print(
            f'{work:<16}' + ''.join(f'{cell:>24}' for cell in cells),
            f'{reached:9.0f}{ceiling:8.0f}',
            flush=True,
        )
        record |= about | {'gflops': reached, 'matmul_gflops': ceiling}
        append_record('against_pytorch', record)


if __name__ == '__main__':
    main()
