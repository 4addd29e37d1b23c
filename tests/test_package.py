"""The package as a library, from its name on.

mypy reads this file as it reads the package, so that what is called here is typed.
"""

import functools
import importlib
import pathlib
import re
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sicnn_jax
from sicnn_jax import images, losses, metrics, models

_ROOT = pathlib.Path(__file__).parents[1]
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


def test_modules_of_the_api_pages_list_their_public_names():
    pages = [page.read_text() for page in (_ROOT / 'docs/api').glob('*.md')]
    names = [name for page in pages for name in re.findall(r'^::: (\S+)', page, re.M)]
    modules = [name for name in names if not name.endswith('render_faces')]
    assert len(modules) > 40
    for name in modules:
        module = importlib.import_module(name)
        own = {
            key
            for key, value in vars(module).items()
            if getattr(value, '__module__', None) == name and key[0] != '_'
        }
        assert own <= set(module.__all__), name
        assert all(hasattr(module, key) for key in module.__all__), name


def _values(
    features: jax.Array | np.ndarray,
    weights: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
) -> list[jax.Array]:
    blocks = [features.reshape(4, 1, 2, 3)]
    return [
        losses.a_softmax_loss(features, weights, labels),
        losses.cosface_loss(features, weights, labels),
        losses.arcface_loss(features, weights, labels),
        *losses.margin_diagnostics(features, weights, labels).values(),
        *losses.sample_identities(jax.random.key(0), weights, labels, 6),
        losses.super_identity_loss(features, features[::-1]),
        losses.feature_distance_loss(features, features[::-1]),
        losses.perceptual_loss(blocks, blocks[::-1]),
        losses.super_resolution_loss(blocks[0], blocks[0][::-1]),
        losses.charbonnier_loss(blocks[0], blocks[0][::-1]),
        losses.discriminator_loss(features[0], features[1]),
        losses.generator_loss(features[0]),
    ]


def test_losses_take_numpy_arrays_as_they_take_those_of_jax():
    arrays = _FEATURES, _WEIGHTS, _LABELS
    of_numpy = _values(*map(np.asarray, arrays))
    assert all(isinstance(value, jax.Array) for value in of_numpy)
    chex.assert_trees_all_equal(of_numpy, _values(*arrays))


def test_it_alone_imports_nothing():
    program = 'import sys, sicnn_jax; print("jax" in sys.modules)'
    printed = subprocess.check_output([sys.executable, '-c', program], text=True)
    assert printed.strip() == 'False'
