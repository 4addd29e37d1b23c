"""A step of each stage of configs/di.py at full width: compile time, memory, time.

    python -m benchmarks.full_width --batch=2

Every stage runs in a process of its own, so that peak memory is its own. On CPU,
bfloat16 has no fast kernels, so --dtype=float32 is the default; give
--dtype=bfloat16 on an accelerator.
"""

import argparse
import functools
import multiprocessing
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.measuring import append_record, time_calls
from configs import di
from sicnn_jax import parallel, train
from sicnn_jax.data.dataset import Faces, open_faces
from sicnn_jax.descent import finite_networks
from sicnn_jax.stages import Stage
from sicnn_jax.train_state import TrainState


def prepare(config: ConfigDict, stage_name: str) -> tuple[Callable, Any, Any]:
    """A stage of a config, initialised, and a batch of procedural faces.

    Returns:
      (state, batch) → (state, metrics), mapped over devices; the state; the batch.
    """
    stage = train.build_stage(config, stage_name, Path('unused'))
    faces = open_faces(config.data, Path('unused'))
    state = fresh_state(config, stage, faces)
    update = train.dispatch(stage, lambda batch: batch)
    drawn = next(faces.train_batches(batch_size=stage.config.batch_size, seed=0))
    batch = jax.tree.map(np.asarray, jax.jit(faces.to_hr)(drawn))
    return functools.partial(update, resident={}), state, parallel.shard(batch)


def fresh_state(config: ConfigDict, stage: Stage, faces: Faces) -> TrainState:
    """All networks of a stage initialised, whatever it begins with, on the devices."""
    params = {
        network: train.initialise(config, stage, network, faces)
        for network in stage.networks
    }
    return parallel.to_devices(
        TrainState.create(params, stage.recipe.optimizers),
        split_identities=stage.recipe.split_identities,
    )


def measure(stage_name: str, batch: int, dtype: str, steps: int) -> dict:
    """Builds the stage and takes a few steps."""
    config = di.get_config()
    config.cnnr.dtype = config.cnnh.dtype = dtype
    # A step of Algorithm 1 as one program, the faster way.
    config.domain_integrated.fused = True
    config[stage_name].batch_size = batch
    update, state, sharded = prepare(config, stage_name)

    def take_step():
        nonlocal state, metrics
        state, metrics = update(state, sharded)
        return state, metrics

    metrics = None
    first, *seconds = time_calls(take_step, steps + 1)
    if not all(finite_networks(parallel.unreplicate(metrics)).values()):
        raise FloatingPointError(f'{stage_name}: the last step was not finite.')
    step = float(np.median(seconds))
    return {
        'stage': stage_name,
        'batch': batch,
        'dtype': dtype,
        'compile_seconds': first - step,
        'step_seconds': step,
        'peak_gib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--dtype', default='float32')
    parser.add_argument('--steps', type=int, default=3)
    arguments = parser.parse_args()
    print(f'{"stage":<20}{"compile":>10}{"step":>10}{"images/s":>10}{"peak":>11}')
    for stage in di.get_config().stages:
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            record = pool.apply(
                measure, (stage, arguments.batch, arguments.dtype, arguments.steps)
            )
        images_per_second = record['batch'] / record['step_seconds']
        print(
            f'{stage:<20}{record["compile_seconds"]:8.1f} s'
            f'{record["step_seconds"]:8.2f} s{images_per_second:10.2f}'
            f'{record["peak_gib"]:7.2f} GiB',
            flush=True,
        )
        append_record('full_width', record)


if __name__ == '__main__':
    main()
