"""Forward and backward time of the convolutions that have a fast way here.

    python -m benchmarks.convolutions

Deconvolution (5×5, stride 2, on 56×48): `flax.linen.ConvTranspose` (XLA convolves a
zero-dilated input), four convolutions of one output parity each (ours), one
convolution to 4× channels followed by depth-to-space. Convolution (3×3, on 54×46, as
after CNNR's first pooling): Winograd's minimal filtering, and `flax.linen.Conv`.
Reconstruction (5×5 to three channels, on 112×96): `flax.linen.Conv`, and the same with
our gradient. All ways of a layer compute the same function, which is checked; the
rounds alternate between them.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measuring import append_record, time_calls
from sicnn_jax.models.convolution import (
    image_convolution,
    transposed_convolution,
    winograd_convolution,
)


def dilated(x, kernel):
    """What `flax.linen.ConvTranspose` computes."""
    return jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME')


def convolution(x, kernel):
    """What `flax.linen.Conv` computes."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def winograd(x, kernel):
    return winograd_convolution(x, kernel, ((1, 1), (1, 1)))


def depth_to_space(x, kernel):
    """One convolution to 4 × c_out channels: 36 taps a pixel for 5×5, not 25."""
    n, h, w, _ = x.shape
    y = convolution(x, _spread(kernel))
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


# Layer → ways of computing it: ours, others, and last the reference.
LAYERS = {
    'deconvolution': {
        'four convolutions (ours)': transposed_convolution,
        'depth-to-space': depth_to_space,
        'flax.linen.ConvTranspose': dilated,
    },
    'convolution': {
        'Winograd (ours)': winograd,
        'flax.linen.Conv': convolution,
    },
    'reconstruction': {
        'gradient by patches (ours)': image_convolution,
        'flax.linen.Conv': convolution,
    },
}


def arrays(layer, batch, channels):
    """Input and kernel of a layer."""
    keys = jax.random.split(jax.random.key(0))
    size, side, features = {
        'deconvolution': ((56, 48), 5, channels),
        'convolution': ((54, 46), 3, channels),
        'reconstruction': ((112, 96), 5, 3),
    }[layer]
    x = jax.random.normal(keys[0], (batch, *size, channels))
    kernel = jax.random.normal(keys[1], (side, side, channels, features))
    return x, kernel / (side * channels**0.5)


def _compiled(function, x, kernel):
    def loss(x, kernel):
        return jnp.sum(jnp.sin(function(x, kernel)))

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    start = time.perf_counter()
    result = jax.block_until_ready(step(x, kernel))
    return step, result, time.perf_counter() - start


def compare(layer: str, batch: int, channels: int, rounds: int) -> dict[str, float]:
    """Prints and returns the median seconds of each way of a layer.

    Raises:
      AssertionError: a gradient is not that of the reference.
    """
    x, kernel = arrays(layer, batch, channels)
    compiled = {
        name: _compiled(function, x, kernel) for name, function in LAYERS[layer].items()
    }
    *_, (_, (_, reference), _) = compiled.values()
    for _, (_, gradients), _ in compiled.values():
        for ours, theirs in zip(gradients, reference, strict=True):
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * scale)

    seconds = {name: [] for name in compiled}
    for _ in range(rounds):
        for name, (step, _, _) in compiled.items():
            seconds[name] += time_calls(functools.partial(step, x, kernel), 1)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    fastest, *_ = medians.values()
    print(f'{layer}, input {x.shape}, kernel {kernel.shape}')
    for name, median in medians.items():
        print(
            f'  {name:<26} {median:8.4f} s  ×{median / fastest:.2f}'
            f'  (compile and first run {compiled[name][2]:.1f} s)',
            flush=True,
        )
    return medians


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument(
        '--channels',
        type=int,
        default=256,
        help='of the deconvolution; a half in the reconstruction, else a quarter',
    )
    arguments = parser.parse_args()
    batch, channels, rounds = arguments.batch, arguments.channels, arguments.rounds
    record = {
        'seconds': {
            'deconvolution': compare('deconvolution', batch, channels, rounds),
            'convolution': compare('convolution', batch, channels // 4, rounds),
            'reconstruction': compare('reconstruction', batch, channels // 2, rounds),
        },
        'batch': batch,
        'channels': channels,
        'rounds': rounds,
    }
    append_record('convolutions', record)


if __name__ == '__main__':
    main()
