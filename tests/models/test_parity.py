"""Our networks and A-Softmax give what their PyTorch twins gave (parity.npz).

`python -m benchmarks.fixtures` writes the file and says what is in it.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from sicnn_jax import images, losses, models

# Of the rows and columns, the file holds every fifth.
_STRIDE = 5
_CNNR = models.CNNR(widths=(4, 6, 8, 10), depths=(1, 2, 1, 1), feature_dim=8)
_CNNH = models.CNNH(width=6, growth=4, depth=2, deconv_width=8)
_NETWORKS = {
    'cnnr': _CNNR,
    'cnnh_8x': _CNNH,
    'cnnh_4x': _CNNH.clone(scale=4),
}


@pytest.fixture(scope='module')
def fixtures():
    with np.load(Path(__file__).with_name('parity.npz')) as file:
        return traverse_util.unflatten_dict(dict(file), sep='/')


def _assert_close(ours, theirs):
    """To float32's rounding, summed over the layers."""
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-6 * np.abs(theirs).max(), rtol=0)


def _thin(array):
    return array[:, ::_STRIDE, ::_STRIDE] if array.ndim == 4 else array


@pytest.mark.parametrize('name', _NETWORKS)
def test_networks_give_what_pytorch_gives(fixtures, name):
    given = fixtures[name]

    @jax.jit
    def loss(faces):
        output = _NETWORKS[name].apply({'params': given['params']}, faces)
        weights = np.sin(np.arange(output.size)).reshape(output.shape)
        return jnp.sum(output * weights), output

    faces = images.to_float(given['faces'])
    (value, output), gradient = jax.value_and_grad(loss, has_aux=True)(faces)
    _assert_close(_thin(output), given['output'])
    _assert_close(_thin(gradient), given['gradient'])
    # A sum of terms of both signs: relative to what they add up to.
    terms = float(jnp.abs(output).sum())
    assert value == pytest.approx(given['loss'], abs=1e-6 * terms)


@pytest.mark.parametrize('name', ['a_softmax_0', 'a_softmax_5'])
def test_a_softmax_gives_what_pytorch_gives(fixtures, name):
    given = fixtures[name]

    def loss(features, class_weights):
        return losses.a_softmax_loss(
            features, class_weights, given['labels'], annealing=given['annealing']
        )

    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(
        given['features'], given['class_weights']
    )
    assert value == pytest.approx(given['loss'], rel=1e-6)
    _assert_close(gradients[0], given['features_gradient'])
    _assert_close(gradients[1], given['class_weights_gradient'])
