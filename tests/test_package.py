"""The package as a library, from its name on."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import sicnn_jax
from sicnn_jax import images, losses, metrics, models

_FEATURES = jnp.arange(24.0).reshape(4, 6)
_WEIGHTS = jnp.ones((6, 8)).at[0].set(-1.0)
_LABELS = jnp.arange(4, dtype=jnp.int32)
_LEVELS = jnp.zeros((2, 112, 96, 3), jnp.uint8)


def _differentiated(model, shape):
    """The shapes of a network's output and gradient: nothing is computed."""
    x = jnp.zeros(shape)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    return jax.eval_shape(jax.grad(lambda p: model.apply(p, x).sum()), params)


PUBLIC = {
    **{
        name: functools.partial(
            jax.grad(losses.recognition_loss(name), (0, 1)),
            _FEATURES,
            _WEIGHTS,
            _LABELS,
            annealing=losses.annealing_schedule()(jnp.int32(3)),
        )
        for name in ('a_softmax', 'cosface', 'arcface')
    },
    'diagnostics': lambda: losses.margin_diagnostics(_FEATURES, _WEIGHTS, _LABELS),
    'identity': lambda: losses.super_identity_loss(_FEATURES, _FEATURES + 1.0),
    'distance': lambda: losses.feature_distance_loss(_FEATURES, _FEATURES + 1.0),
    'pixels': lambda: losses.super_resolution_loss(*[images.to_float(_LEVELS)] * 2),
    'sampling': lambda: losses.sample_identities(
        jax.random.key(0), _WEIGHTS, _LABELS, 6
    ),
    'images': lambda: images.enlarge(images.degrade(_LEVELS)),
    'metrics': lambda: metrics.ssim(_LEVELS, _LEVELS),
    'CNNR': lambda: _differentiated(models.CNNR(), (2, 112, 96, 3)),
    'CNNH': lambda: _differentiated(models.CNNH(), (2, 14, 12, 3)),
    'CNNH with a skip': lambda: _differentiated(
        models.CNNH(width=2, growth=2, depth=1, deconv_width=2, bicubic_skip=True),
        (2, 14, 12, 3),
    ),
}


@pytest.mark.parametrize('function', PUBLIC.values(), ids=PUBLIC)
def test_nothing_relies_on_implicit_promotion(function):
    with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
        function()


def test_its_parts_are_found_from_its_name():
    assert {'losses', 'models', 'algorithm'} <= {*dir(sicnn_jax)}
    for name in sicnn_jax.__all__:
        assert getattr(sicnn_jax, name).__name__ == f'sicnn_jax.{name}'
    assert sicnn_jax.__version__.count('.') == 2
    assert not hasattr(sicnn_jax, 'steps')


def test_it_alone_imports_nothing():
    program = 'import sys, sicnn_jax; print("jax" in sys.modules)'
    printed = subprocess.check_output([sys.executable, '-c', program], text=True)
    assert printed.strip() == 'False'
