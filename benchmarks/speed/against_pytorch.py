"""Our updates and inference compared with the same in PyTorch.

    pip install torch
    python -m benchmarks.speed.against_pytorch --rounds=5
    python -m benchmarks.speed.against_pytorch --networks=light --onnx=NETWORK.onnx

The networks have the paper's widths, or are the light ones of configs/real.py and
di:demo. The work `identity_update`, L_SI through a third-party recogniser, needs
`--onnx`.

Each side runs in its own process. The rounds alternate: one side waits while the other
computes. Both start from the same parameters and faces, and must agree on the loss (or
the picture) before anything is timed. Compile time is reported separately. PyTorch runs
as it is and through torch.compile, on a GPU if there is one; --dtype=bfloat16 gives it
automatic mixed precision. The last columns are our billions of operations per second
(as counted by benchmarks/counting.py for direct convolutions) and those of a large
matrix product on the same machine.
"""

import argparse
import dataclasses
import functools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.measuring import append_record, in_turns, matmul_gflops, time_calls
from benchmarks.stages import prepare
from configs import di, real
from sicnn_jax import images, inference, models, parallel, terms
from sicnn_jax.descent import AXIS
from sicnn_jax.models import convolutions
from tests import counting


@dataclasses.dataclass(frozen=True)
class Work:
    """What is timed.

    Attributes:
      config: makes the config that has the stage.
      stage: the stage's name.
      inference: CNNH's forward pass alone, not an update of the stage.
      batch: the number of faces, whatever `--batch` says; 0 leaves it to `--batch`.
    """

    config: Callable[[], ConfigDict]
    stage: str
    inference: bool = False
    batch: int = 0


# By networks, then by name.
WORKS = {
    'paper': {
        'cnnr_update': Work(di.get_config, 'recognition'),
        'cnnh_update': Work(di.get_config, 'hallucination'),
        'di_iteration': Work(di.get_config, 'domain_integrated'),
        'cnnh_inference': Work(di.get_config, 'hallucination', inference=True),
    },
    'light': {
        'cnnh_update': Work(real.get_config, 'hallucination'),
        'distillation': Work(
            functools.partial(real.get_config, 'distilled'), 'recognition'
        ),
        'di_iteration': Work(
            functools.partial(di.get_config, 'demo'), 'domain_integrated'
        ),
        'identity_update': Work(
            functools.partial(real.get_config, 'onnx'), 'approach_ii'
        ),
        **{
            f'cnnh_inference_{batch}': Work(
                real.get_config, 'hallucination', inference=True, batch=batch
            )
            for batch in (1, 64)
        },
    },
}
# Defaults; 0 is the config's batch, which is too large at the paper's widths.
BATCHES = {'paper': 8, 'light': 0}
SIDES = ('ours', 'pytorch', 'pytorch_compiled')
# Largest relative difference of the losses.
_TOLERANCES = {'float32': 2e-3, 'bfloat16': 3e-2}

_step = None


@dataclasses.dataclass(frozen=True)
class Setting:
    """A work as it is measured, which both sides build for themselves.

    Attributes:
      networks, work: keys of `WORKS`.
      batch: the number of faces; 0 for the config's.
      dtype: the data type of the computation.
      onnx: the file for `identity_update`.
    """

    networks: str
    work: str
    batch: int
    dtype: str
    onnx: str = ''

    @property
    def described(self) -> Work:
        return WORKS[self.networks][self.work]

    def configure(self) -> ConfigDict:
        """The config, changed so that every step is like the first one."""
        work = self.described
        config = work.config()
        if config.cnnr.kind == 'onnx':
            config.cnnr.file = self.onnx
        for network in (config.cnnr, config.cnnh):
            if 'dtype' in network:
                network.dtype = self.dtype
        # Procedural faces need no shards.
        config.data.source = 'procedural'
        stage = config[work.stage]
        stage.batch_size = work.batch or self.batch or stage.batch_size
        if 'fused' in stage:
            # An iteration of Algorithm 1 as one program, the faster way.
            stage.fused = True
        if 'annealing' in stage:
            stage.annealing.base = stage.annealing.minimum
        for optimizer in stage.optimizer.values():
            optimizer.learning_rate, optimizer.warmup_steps = 1e-4, 0
            optimizer.schedule = 'constant'
        return config


def set_up(side: str, setting: Setting, path: str) -> tuple[float, float]:
    """Builds one side of a work in this process and runs it once.

    Our side writes the parameters and faces to the path; the others read them.

    Returns:
      The loss (or mean picture) of the first step, and its seconds.
    """
    global _step
    build = _ours if side == 'ours' else functools.partial(_pytorch, side)
    _step = build(setting, path)
    start = time.perf_counter()
    value = _step()
    return value, time.perf_counter() - start


def time_steps(steps: int) -> list[float]:
    """Seconds of each step of what `set_up` built, after an untimed step.

    The first step after the other sides' turn finds cold caches and returned memory.
    """
    _step()
    return time_calls(_step, steps)


def _ours(setting, path):
    config, work = setting.configure(), setting.described
    if work.inference:
        return _our_inference(config, work.stage, path)
    parallel.divide_cpu(config.cpu_devices)
    with convolutions.use_winograd(config.winograd):
        update, state, faces = prepare(config, work.stage)
    alpha = config[work.stage].get('alpha', 0.0)
    _save(path, config, work.stage, state, faces)

    def step():
        nonlocal state
        # The first call compiles.
        with convolutions.use_winograd(config.winograd):
            state, metrics = jax.block_until_ready(update(state, faces))
        return loss_of(parallel.unreplicate(metrics), alpha)

    return step


def loss_of(metrics: dict[str, Any], alpha: float) -> float:
    """The loss of an update from its metrics; for Algorithm 1, CNNH's loss."""
    if 'super_resolution_loss' in metrics:
        identity = metrics.get('super_identity_loss', 0.0)
        return float(metrics['super_resolution_loss'] + alpha * identity)
    (name,) = {'recognition_loss', 'distillation_loss'} & set(metrics)
    return float(metrics[name])


def _our_inference(config, stage_name, path):
    """With constant parameters, like `inference.frozen`."""
    _, state, faces = prepare(config, stage_name)
    _save(path, config, stage_name, state, faces)
    params = parallel.unreplicate(state).params['cnnh']
    record = {'models': {'cnnh': config.cnnh.to_dict()}, 'scale': config.scale}
    apply = functools.partial(models.cnnh_from(record).apply, {'params': params})
    cnnh = jax.jit(apply, compiler_options=convolutions.inference_options())
    lr = images.to_float(_degrade(parallel.unreplicate(faces)['hr']))
    return lambda: float(np.asarray(cnnh(lr)).mean())


def _save(path, config, stage_name, state, faces):
    """Writes what the other sides start from."""
    faces = {name: np.concatenate(np.asarray(array)) for name, array in faces.items()}
    stage = config[stage_name]
    if stage.get('identity_shift') or stage.get('identity_blur'):
        faces['views'] = _views(config, stage)
    np.savez(path, params=parallel.unreplicate(state).params, **faces)


def _views(config, stage):
    """The views of the first step on all devices, [n, 4]."""
    devices = len(parallel.local_devices())
    recipe = ConfigDict(
        {
            'seed': config.seed,
            'identity_shift': stage.identity_shift,
            'identity_blur': stage.identity_blur,
        }
    )
    draw = jax.vmap(
        lambda step: terms.draw_views(recipe, step, stage.batch_size // devices, AXIS),
        axis_name=AXIS,
    )
    return np.concatenate(np.asarray(draw(np.zeros(devices, np.int32))))


def _pytorch(side, setting, path):
    # Compile in this process: a worker of a pool must not have children.
    os.environ['TORCHINDUCTOR_COMPILE_THREADS'] = '1'
    import torch

    from benchmarks import pytorch_twin

    torch.set_num_threads(os.cpu_count())
    config, work = setting.configure(), setting.described
    stage = config[work.stage]
    with np.load(path, allow_pickle=True) as file:
        params = file['params'].item()
        arrays = {name: file[name] for name in file.files if name != 'params'}
    updates = pytorch_twin.Updates(
        params,
        {
            name: pytorch_twin.load(name, params[name], config[name])
            for name in ('cnnr', 'cnnh')
            if name in params
        },
        stage.optimizer,
        compiled=side == 'pytorch_compiled',
        dtype=setting.dtype,
    )
    given = {
        name: torch.from_numpy(array).to(pytorch_twin.DEVICE)
        for name, array in arrays.items()
        if name != 'hr'
    }
    lr = pytorch_twin.to_twin(images.to_float(_degrade(arrays['hr'])))
    hr = pytorch_twin.to_twin(images.to_float(arrays['hr']))
    if work.inference:
        return lambda: float(updates.infer(lr).mean())
    alpha = stage.get('alpha', 0.0)
    return {
        'recognition': lambda: updates.recognition(hr, given['label'].long()),
        'distillation': lambda: updates.distillation(hr, given['target']),
        'hallucination': lambda: updates.hallucination(
            lr, hr, alpha, given.get('views')
        ),
        'domain_integrated': lambda: updates.domain_integrated(
            lr, hr, given['label'].long(), alpha
        ),
    }[stage.update_rule]


def _degrade(hr):
    return inference.degrade_faces(hr, scale=8, kind='bicubic')


def count_gflop(setting: Setting) -> float | None:
    """Billions of operations of a work for one face (or pair).

    None with a third-party recogniser, whose operations are not counted.
    """
    # In bfloat16, convolutions are direct on every backend.
    config = dataclasses.replace(setting, dtype='bfloat16').configure()
    work = setting.described
    if config.cnnr.kind != 'cnnr':
        return None
    if work.inference:
        record = {'models': {'cnnh': config.cnnh.to_dict()}, 'scale': config.scale}
        function, shapes = counting.forward(models.cnnh_from(record))
    else:
        function, shapes = counting.iteration(config, work.stage)
    return 2 * counting.multiply_adds(function, *shapes) / 1e9


def compare(setting: Setting, rounds: int, steps: int) -> dict:
    """Times all sides of a work in turn.

    Returns:
      The record: medians, the median of the rounds' ratios, compile times.

    Raises:
      AssertionError: the sides do not compute the same value.
    """
    context = multiprocessing.get_context('spawn')
    pools = {side: context.Pool(1) for side in SIDES}
    try:
        with tempfile.TemporaryDirectory() as directory:
            path = f'{directory}/twin.npz'
            first = {
                side: pool.apply(set_up, (side, setting, path))
                for side, pool in pools.items()
            }
        for side, (value, _) in first.items():
            np.testing.assert_allclose(
                value,
                first['ours'][0],
                rtol=_TOLERANCES[setting.dtype],
                atol=1e-5,
                err_msg=side,
            )
        timers = {
            side: functools.partial(pool.apply, time_steps, (steps,))
            for side, pool in pools.items()
        }
        seconds = in_turns(timers, rounds)
    finally:
        for pool in pools.values():
            pool.terminate()
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    ratios = {
        side: statistics.median(np.divide(seconds[side], seconds['ours']).tolist())
        for side in SIDES
    }
    return {
        'networks': setting.networks,
        'work': setting.work,
        'batch': setting.configure()[setting.described.stage].batch_size,
        'seconds': medians,
        'times_ours': ratios,
        'compile_seconds': {
            side: first[side][1] - medians[side] for side in ('ours', SIDES[-1])
        },
        'values': {side: value for side, (value, _) in first.items()},
    }


def _settings(arguments):
    """The works that were asked for; by default, all whose file is given."""
    works = WORKS[arguments.networks]
    chosen = arguments.works.split(',') if arguments.works else [*works]
    if not (arguments.works or arguments.onnx) and 'identity_update' in chosen:
        print('identity_update is left out: it needs --onnx=NETWORK.onnx')
        chosen.remove('identity_update')
    batch = arguments.batch or BATCHES[arguments.networks]
    return [
        Setting(arguments.networks, work, batch, arguments.dtype, arguments.onnx)
        for work in chosen
    ]


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--networks', choices=WORKS, default='paper')
    add('--batch', type=int, default=0, help="default: 8; light: the configs' own")
    add('--rounds', type=int, default=5)
    add('--steps', type=int, default=3, help='per round')
    add('--works', default='', help='default: all')
    add('--onnx', default='', help='a recognition network, for identity_update')
    add('--dtype', choices=_TOLERANCES, default='float32')
    return parser


def main():
    arguments = _parser().parse_args()
    # PyTorch and both JAX processes share an accelerator's memory.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    about = {
        'dtype': arguments.dtype,
        'rounds': arguments.rounds,
        'glibc_tunables': os.environ.get('GLIBC_TUNABLES', ''),
        'torch': metadata.version('torch'),
    }
    print(f'{arguments.networks}; images/s, and time as a multiple of ours')
    ceiling = matmul_gflops(arguments.dtype)
    titles = ''.join(f'{side:>24}' for side in SIDES)
    print(f'{"work":<18}{"batch":>6}{titles}{"GFLOP/s":>10}{"matmul":>8}')
    for setting in _settings(arguments):
        record = compare(setting, arguments.rounds, arguments.steps)
        rates = {
            side: record['batch'] / seconds
            for side, seconds in record['seconds'].items()
        }
        cells = [
            f'{rates[side]:.2f}  (×{record["times_ours"][side]:.2f})' for side in SIDES
        ]
        gflop = count_gflop(setting)
        reached = gflop and gflop * rates['ours']
        print(
            f'{setting.work:<18}{record["batch"]:>6}'
            + ''.join(f'{cell:>24}' for cell in cells),
            f'{reached:9.0f}' if reached else f'{"":9}',
            f'{ceiling:7.0f}',
            flush=True,
        )
        record |= about | {'gflops': reached, 'matmul_gflops': ceiling}
        append_record('against_pytorch', record)


if __name__ == '__main__':
    main()
