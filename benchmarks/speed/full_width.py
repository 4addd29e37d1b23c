"""A step of each stage of configs/di.py at full width: compile time, memory, time.

    python -m benchmarks.speed.full_width --batch=2

Every stage runs in its own process, which makes the peak memory its own. On CPUs,
bfloat16 has no fast kernels, so --dtype=float32 is the default; give
--dtype=bfloat16 on an accelerator.
"""

import argparse
import resource

import numpy as np

from benchmarks.measuring import append_record, in_own_process, time_calls
from benchmarks.stages import prepare
from configs import di
from sicnn_jax import parallel
from sicnn_jax.descent import finite_networks


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
        record = in_own_process(
            measure, stage, arguments.batch, arguments.dtype, arguments.steps
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
