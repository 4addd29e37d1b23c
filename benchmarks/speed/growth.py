"""How the time of a step grows with batch, identities and image size.

    python -m benchmarks.speed.growth

At the paper's widths, in float32 on a CPU, the command measures CNNR's and CNNH's
updates by batch, CNNR's update by number of identities, and CNNH, which is all
convolutions, by the size of its input (without the check that the input is a face of
12×14). Every figure is from its own process, without compilation. Growth with devices
is not measured: simulated devices share the cores of one machine.
"""

import argparse
import statistics

import chex
import jax
import jax.numpy as jnp

from benchmarks.measuring import append_record, in_own_process, markdown, time_calls
from benchmarks.stages import stepper
from configs import di
from sicnn_jax import models


def update_seconds(
    stage: str, batch: int, identities: int, dtype: str, steps: int
) -> float:
    """Median seconds of an update of a stage of configs/di.py."""
    config = di.get_config()
    config.cnnr.dtype = config.cnnh.dtype = dtype
    config[stage].batch_size = batch
    config.data.identities = identities
    return statistics.median(time_calls(stepper(config, stage), steps + 1)[1:])


def inference_seconds(height: int, width: int, dtype: str, steps: int) -> float:
    """Median seconds of CNNH on one image of this size."""
    chex.disable_asserts()
    model = models.CNNH(dtype=dtype)
    image = jnp.full((1, height, width, 3), 0.5)
    params = jax.jit(model.init)(jax.random.key(0), image)
    apply = jax.jit(model.apply)
    return statistics.median(time_calls(lambda: apply(params, image), steps + 1)[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--batches', default='1,2,4,8,16,32')
    parser.add_argument('--identities', default='1000,17680,100000')
    parser.add_argument('--batch', type=int, default=8, help='while identities grow')
    parser.add_argument('--sizes', default='7x6,14x12,28x24,56x48')
    parser.add_argument('--dtype', default='float32')
    parser.add_argument('--steps', type=int, default=3)
    arguments = parser.parse_args()
    batches = [int(batch) for batch in arguments.batches.split(',')]
    counts = [int(count) for count in arguments.identities.split(',')]
    sizes = [tuple(map(int, size.split('x'))) for size in arguments.sizes.split(',')]
    how = arguments.dtype, arguments.steps
    paper = di.get_config().data.identities
    record = {'dtype': arguments.dtype, 'steps': arguments.steps}

    for stage in ('recognition', 'hallucination'):
        seconds = [
            in_own_process(update_seconds, stage, batch, paper, *how)
            for batch in batches
        ]
        record[stage] = dict(zip(batches, seconds, strict=True))
        rows = [
            (f'{batch}', [f'{each:.2f}', f'{batch / each:.2f}'])
            for batch, each in record[stage].items()
        ]
        print(f'\n{stage}:\n')
        print(markdown(('step, s', 'images/s'), rows, 'batch'), flush=True)

    seconds = [
        in_own_process(update_seconds, 'recognition', arguments.batch, count, *how)
        for count in counts
    ]
    record['identities'] = dict(zip(counts, seconds, strict=True))
    rows = [(f'{c:,}', [f'{each:.2f}']) for c, each in record['identities'].items()]
    print(f'\nrecognition, batch {arguments.batch}:\n')
    print(markdown(('step, s',), rows, 'identities'), flush=True)

    seconds = [in_own_process(inference_seconds, *size, *how) for size in sizes]
    record['sizes'] = {
        f'{height}x{width}': each
        for (height, width), each in zip(sizes, seconds, strict=True)
    }
    rows = [
        (f'{h}×{w} → {8 * h}×{8 * w}', [f'{each:.3f}', f'{1e6 * each / h / w:.0f}'])
        for (h, w), each in zip(sizes, seconds, strict=True)
    ]
    print('\nCNNH, one image:\n')
    print(markdown(('s', 'µs per pixel of the input'), rows, 'image'))
    append_record('growth', record)


if __name__ == '__main__':
    main()
