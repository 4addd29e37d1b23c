"""Forward and backward time of the convolutions that are computed specially here.

    python -m benchmarks.speed.convolutions

Deconvolution (5×5, stride 2, on 56×48): `flax.linen.ConvTranspose` (XLA convolves a
zero-dilated input), four convolutions of one output parity each (ours), and one
convolution to 4× channels followed by depth-to-space. Convolution (3×3): the networks'
choice, the ways they choose from (Winograd's minimal filtering in tiles of 2×2 and 4×4,
patches), and `flax.linen.Conv`. Mapping (1×1): a matrix product, and `flax.linen.Conv`.
Reconstruction (5×5 to three channels, on 112×96): `flax.linen.Conv`, and the same with
our gradient. The command checks that all ways of a layer compute the same function; the
rounds alternate between them.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measuring import append_record, in_turns, time_calls
from sicnn_jax.models import convolutions as ways
from sicnn_jax.models.convolutions import image_convolution, transposed_convolution

_SAME = ((1, 1), (1, 1))


def dilated(x, kernel):
    """The computation of `flax.linen.ConvTranspose`."""
    return jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME')


def direct(x, kernel):
    """The computation of `flax.linen.Conv`."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def matrix_product(x, kernel):
    return x @ kernel[0, 0]


def depth_to_space(x, kernel):
    """One convolution to 4 × c_out channels: 36 taps per pixel for 5×5, not 25."""
    n, h, w, _ = x.shape
    y = direct(x, _spread(kernel))
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


# Layer → ways of computing it: ours first, the reference last.
LAYERS = {
    'deconvolution': {
        'four convolutions (ours)': transposed_convolution,
        'depth-to-space': depth_to_space,
        'flax.linen.ConvTranspose': dilated,
    },
    'convolution': {
        'by shape (ours)': lambda x, kernel: ways.convolution(x, kernel, 'SAME'),
        'Winograd, 2×2': lambda *xs: ways.winograd_convolution(*xs, _SAME),
        'Winograd, 4×4': lambda *xs: ways.winograd_convolution(*xs, _SAME, 4),
        'patches': lambda *xs: ways.patch_convolution(*xs, _SAME),
        'flax.linen.Conv': direct,
    },
    'mapping': {'matrix product (ours)': matrix_product, 'flax.linen.Conv': direct},
    'reconstruction': {
        'gradient by patches (ours)': image_convolution,
        'flax.linen.Conv': direct,
    },
}


# Side of the kernel of a layer.
_SIDES = {'deconvolution': 5, 'convolution': 3, 'mapping': 1, 'reconstruction': 5}
# The slowest layers of the paper's networks.
_PAPER = (
    'deconvolution:56x48x256x256',
    'convolution:112x96x3x64',
    'convolution:110x94x64x64',
    'convolution:54x46x64x64',
    'convolution:26x22x128x128',
    'convolution:12x10x256x256',
    'convolution:5x4x512x512',
    'convolution:112x96x64x32',
    'convolution:56x48x160x32',
    'mapping:112x96x256x64',
    'reconstruction:112x96x128x3',
)


def arrays(layer, shape, batch):
    """Input and kernel of a layer, of (height, width, channels, features)."""
    height, width, channels, features = shape
    side = _SIDES[layer]
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (batch, height, width, channels))
    kernel = jax.random.normal(keys[1], (side, side, channels, features))
    return x, kernel / (side * channels**0.5)


def _compiled(function, x, kernel, gradient):
    @jax.jit
    def step(x, kernel, gradient):
        y, pull_back = jax.vjp(function, x, kernel)
        return y, *pull_back(gradient)

    start = time.perf_counter()
    result = jax.block_until_ready(step(x, kernel, gradient))
    return step, result, time.perf_counter() - start


def compare(
    layer: str, shape: tuple[int, ...], batch: int, rounds: int
) -> dict[str, float]:
    """Prints and returns the median seconds of each way of a layer.

    Raises:
      AssertionError: an output or gradient differs from the reference.
    """
    x, kernel = arrays(layer, shape, batch)
    *_, reference = LAYERS[layer].values()
    output = jax.eval_shape(reference, x, kernel)
    gradient = jax.random.normal(jax.random.key(1), output.shape)
    arguments = x, kernel, gradient
    compiled = {
        name: _compiled(function, *arguments)
        for name, function in LAYERS[layer].items()
    }
    *_, (_, expected, _) = compiled.values()
    for _, found, _ in compiled.values():
        for ours, theirs in zip(found, expected, strict=True):
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * scale)

    timers = {
        name: functools.partial(time_calls, functools.partial(step, *arguments), 1)
        for name, (step, _, _) in compiled.items()
    }
    seconds = in_turns(timers, rounds)
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
        '--layers',
        default=','.join(_PAPER),
        help=f'LAYER:HEIGHTxWIDTHxCHANNELSxFEATURES,…, LAYER of {", ".join(LAYERS)}',
    )
    arguments = parser.parse_args()
    batch, rounds = arguments.batch, arguments.rounds
    seconds = {}
    for name in arguments.layers.split(','):
        layer, _, shape = name.partition(':')
        sizes = tuple(map(int, shape.split('x')))
        seconds[name] = compare(layer, sizes, batch, rounds)
    record = {'seconds': seconds, 'batch': batch, 'rounds': rounds}
    append_record('convolutions', record)


if __name__ == '__main__':
    main()
