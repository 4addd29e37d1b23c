"""The perceptual loss against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.losses import perceptual_loss
from tests.losses.finite_differences import finite_differences

SHAPES = ((2, 3, 2, 4), (2, 1, 2, 5))


def _activations(seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in SHAPES]


def _reference(sr, hr):
    return sum(((a - b) ** 2).mean() for a, b in zip(sr, hr, strict=True))


def _arrays(activations, dtype=jnp.float32):
    return [jnp.asarray(block, dtype) for block in activations]


def test_loss_and_its_gradients():
    sr, hr = _activations(0), _activations(1)
    loss, gradients = jax.value_and_grad(perceptual_loss, (0, 1))(
        _arrays(sr), _arrays(hr)
    )
    assert loss.shape == () and loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, _reference(sr, hr), rtol=1e-5)
    for block in range(len(SHAPES)):

        def moved(x, block=block):
            return _reference([*sr[:block], x, *sr[block + 1 :]], hr)

        expected = finite_differences(moved, sr[block])
        np.testing.assert_allclose(gradients[0][block], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(gradients[1][block], -expected, rtol=1e-4, atol=1e-6)


def test_blocks_weigh_the_same_whatever_their_size():
    zeros = [jnp.zeros(shape) for shape in SHAPES]
    first, second = (
        [zero + (index == block) for index, zero in enumerate(zeros)]
        for block in range(2)
    )
    assert perceptual_loss(first, zeros) == perceptual_loss(second, zeros) == 1


def test_bfloat16_is_computed_in_float32():
    sr, hr = (_arrays(_activations(seed), jnp.bfloat16) for seed in (0, 1))
    exact = perceptual_loss(_arrays(sr), _arrays(hr))
    assert perceptual_loss(sr, hr) == exact


def test_shapes_that_would_broadcast_are_refused():
    sr = _arrays(_activations(0))
    for other in (sr[:1], [sr[0][:1], sr[1]], [block[0] for block in sr]):
        with pytest.raises(AssertionError):
            perceptual_loss(sr, other)
