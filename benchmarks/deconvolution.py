"""Forward and backward time of CNNH's largest deconvolution, three ways of writing it.

    python -m benchmarks.deconvolution

`flax.linen.ConvTranspose` (XLA convolves a zero-dilated input), four convolutions of
one output parity each (ours), one convolution to 4× channels followed by
depth-to-space. All compute the same function; the rounds alternate between them.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sicnn_jax.models.layers import transposed_convolution

RESULTS = Path(__file__).with_name('results') / 'deconvolution.jsonl'


def dilated(x, kernel):
    """What `flax.linen.ConvTranspose` computes."""
    return jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME')


def depth_to_space(x, kernel):
    """One convolution to 4 × c_out channels: 36 taps a pixel for 5×5, not 25."""
    n, h, w, _ = x.shape
    y = jax.lax.conv_general_dilated(
        x, _spread(kernel), (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    y = y.reshape(n, h, w, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, 2 * h, 2 * w, -1)


def _spread(kernel):
    """[k, k, c, d] → [3, 3, c, 4d]: the taps of each output parity."""
    size = kernel.shape[0]
    before = (size + 1) // 2
    parts = []
    for row in (0, 1):
        for column in (0, 1):
            part = jnp.zeros((3, 3, *kernel.shape[2:]), kernel.dtype)
            for i in range((before - row) % 2, size, 2):
                for j in range((before - column) % 2, size, 2):
                    at = ((row + i - before) // 2 + 1, (column + j - before) // 2 + 1)
                    part = part.at[at].set(kernel[i, j])
            parts.append(part)
    return jnp.concatenate(parts, axis=-1)


WAYS = {
    'four convolutions (ours)': transposed_convolution,
    'depth-to-space': depth_to_space,
    'flax.linen.ConvTranspose': dilated,
}


def _compiled(function, x, kernel):
    def loss(x, kernel):
        return jnp.sum(jnp.square(function(x, kernel)))

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    start = time.perf_counter()
    result = jax.block_until_ready(step(x, kernel))
    return step, result, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--channels', type=int, default=256)
    arguments = parser.parse_args()
    channels = arguments.channels
    x = jax.random.normal(jax.random.key(0), (arguments.batch, 56, 48, channels))
    kernel = jax.random.normal(jax.random.key(1), (5, 5, channels, channels)) / 80

    compiled = {name: _compiled(function, x, kernel) for name, function in WAYS.items()}
    reference = compiled['flax.linen.ConvTranspose'][1][1]
    for _, (_, gradients), _ in compiled.values():
        for ours, theirs in zip(gradients, reference, strict=True):
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * scale)

    seconds = {name: [] for name in WAYS}
    for _ in range(arguments.rounds):
        for name, (step, _, _) in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(step(x, kernel))
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ours = medians['four convolutions (ours)']
    print(f'5×5 stride 2, {channels} → {channels}, 56×48, batch {arguments.batch}')
    for name, median in medians.items():
        print(
            f'{name:<26} {median:8.3f} s  ×{median / ours:.2f}'
            f'  (compile and first run {compiled[name][2]:.1f} s)'
        )
    record = {
        'seconds': medians,
        'batch': arguments.batch,
        'channels': channels,
        'device': jax.devices()[0].device_kind,
        'cores': os.cpu_count(),
        'machine': platform.machine(),
        'jax': jax.__version__,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open('a') as file:
        file.write(json.dumps(record) + '\n')


if __name__ == '__main__':
    main()
