"""The updates and losses are right in whatever loop they are put, on eight devices."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from sicnn_jax import algorithm, images, losses
from sicnn_jax.axes import vary, varying
from sicnn_jax.descent import AXIS
from sicnn_jax.models import convolutions
from sicnn_jax.onnx import windows
from sicnn_jax.train_state import TrainState
from tests.test_steps import IDENTITIES, _batch, _networks, _recipe, initialise

needs_shard_map = pytest.mark.skipif(
    not hasattr(jax, 'shard_map'), reason='this JAX has it elsewhere'
)
WAYS = {'of a CPU': contextlib.nullcontext, 'neutral': convolutions.on_any_backend}


@pytest.fixture(scope='module')
def state():
    return TrainState.create(initialise(), _recipe().optimizers)


def _mesh():
    kinds = {}
    if hasattr(jax.sharding, 'AxisType'):
        kinds['axis_types'] = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((8,), (AXIS,), **kinds)


def _in_shard_map(function, in_specs, out_specs, check_vma):
    return jax.jit(
        jax.shard_map(
            function,
            mesh=_mesh(),
            in_specs=in_specs,
            out_specs=out_specs,
            check_vma=check_vma,
        )
    )


def _by_shard_map(update, check_vma):
    return _in_shard_map(update, (P(), P(AXIS)), P(), check_vma)


def _in_parts(mapped, count):
    """Of a state and a whole batch, by a function of one in so many parts."""

    def of(state, batch):
        parts = jax.tree.map(
            lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch
        )
        return jax.tree.map(lambda leaf: leaf[0], mapped(state, parts))

    return of


def _by_pmap(update):
    return _in_parts(jax.pmap(update, axis_name=AXIS, in_axes=(None, 0)), 8)


def _by_vmap(update, count=8):
    mapped = jax.vmap(update, axis_name=AXIS, in_axes=(None, 0))
    return _in_parts(jax.jit(mapped), count)


# On one device, or by XLA on as many as the batch is on.
_by_one = functools.partial(_by_vmap, count=1)


def _by_shardings(update):
    sharding = NamedSharding(_mesh(), P(AXIS))

    def of(state, batch):
        return _by_one(update)(state, jax.device_put(batch, sharding))

    return of


LOOPS = {
    'pmap': _by_pmap,
    'vmap': _by_vmap,
    'shardings': _by_shardings,
    'shard_map': pytest.param(
        functools.partial(_by_shard_map, check_vma=True), marks=needs_shard_map
    ),
    'shard_map unchecked': pytest.param(
        functools.partial(_by_shard_map, check_vma=False), marks=needs_shard_map
    ),
}


def _assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5),
        found,
        expected,
    )


@pytest.fixture(scope='module')
def recognised(state):
    """The state and the metrics after CNNR's step, on one device."""
    update = functools.partial(algorithm.recognition, _recipe())
    return _by_one(update)(state, _batch())


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('loop', LOOPS.values(), ids=LOOPS)
def test_an_update_makes_the_step_of_one_device(loop, way, state, recognised):
    update = functools.partial(algorithm.recognition, _recipe())
    with WAYS[way]():
        found = loop(update)(state, _batch())
    assert recognised[1]['cnnr_gradient_norm'] > 0.1
    _assert_close(found, recognised)


@needs_shard_map
@pytest.mark.parametrize('way', WAYS)
def test_algorithm_1_in_parts_in_a_shard_map(way, state):
    recipe = _recipe(microbatches=2, identity_shift=2)
    update = functools.partial(algorithm.domain_integrated, recipe)
    batch = _batch(16)
    expected = _by_one(update)(state, batch)
    with WAYS[way]():
        found = _by_shard_map(update, check_vma=True)(state, batch)
    _assert_close(found, expected)


@needs_shard_map
@pytest.mark.parametrize('check_vma', [True, False])
def test_split_identities_in_a_shard_map(check_vma, state, recognised):
    """Eight columns of class weights, one a device, of which three are nobody's."""
    recipe = _recipe(split_identities=True)
    weights = state.params['class_weights']
    padded = jnp.pad(weights, ((0, 0), (0, 8 - IDENTITIES)))
    params = {'cnnr': state.params['cnnr'], 'class_weights': padded}
    split = TrainState.create(params, recipe.optimizers)
    specs = jax.tree.map(lambda leaf: P(), split)
    specs.networks['class_weights'] = jax.tree.map(
        lambda leaf: P(None, AXIS) if leaf.ndim == 2 else P(),
        split.networks['class_weights'],
    )
    update = functools.partial(algorithm.recognition, recipe)
    sharded = _in_shard_map(update, (specs, P(AXIS)), (specs, P()), check_vma)
    found, metrics = sharded(split, _batch())
    expected, of_one = recognised
    _assert_close(
        found.params['class_weights'][:, :IDENTITIES], expected.params['class_weights']
    )
    _assert_close(found.params['cnnr'], expected.params['cnnr'])
    _assert_close(metrics, of_one)


@needs_shard_map
@pytest.mark.parametrize('check_vma', [True, False])
@pytest.mark.parametrize(
    'loss', [losses.a_softmax_loss, losses.cosface_loss, losses.arcface_loss]
)
def test_the_gradient_by_split_class_weights_is_as_documented(loss, check_vma):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(16, 6)).astype(np.float32)
    weights = rng.normal(size=(6, 24)).astype(np.float32)
    labels = rng.integers(0, 24, 16)
    gradient = jax.grad(functools.partial(loss, axis_name=AXIS), 1)
    specs = P(AXIS), P(None, AXIS), P(AXIS)
    sharded = _in_shard_map(gradient, specs, P(None, AXIS), check_vma)
    found = sharded(features, weights, labels)
    expected = jax.grad(loss, 1)(features, weights, labels)
    factor = 1 if check_vma else 8
    np.testing.assert_allclose(found, factor * expected, rtol=1e-3, atol=1e-5)


@needs_shard_map
@pytest.mark.parametrize('check_vma', [True, False])
@pytest.mark.parametrize('network', ['cnnh', 'cnnr'])
def test_the_networks_differentiate_in_a_shard_map(network, check_vma, state):
    cnnr, cnnh = _networks()
    hr = images.to_float(_batch()['hr'])
    x = hr[:, ::8, ::8] if network == 'cnnh' else hr
    model = cnnh if network == 'cnnh' else cnnr

    def mean_square(params, x):
        return jnp.mean(jnp.square(model.apply({'params': params}, x)))

    def of_all(params, x):
        return jax.lax.pmean(mean_square(params, x), AXIS)

    def gradient(params, x):
        found = jax.grad(of_all)(params, x)
        return found if check_vma else jax.lax.pmean(found, AXIS)

    params = state.params[network]
    found = _by_shard_map(gradient, check_vma)(params, x)
    expected = jax.jit(jax.grad(mean_square))(params, x)
    _assert_close(found, expected)


@needs_shard_map
def test_depthwise_convolutions_of_onnx_networks_differentiate_in_a_shard_map():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3, 9, 9)).astype(np.float32)
    kernel = rng.normal(size=(3, 1, 3, 3)).astype(np.float32)

    def mean_square(kernel, x):
        y = windows.depthwise(x, kernel, (1, 1), (1, 1), ((1, 1), (1, 1)))
        return jnp.mean(jnp.square(y))

    def of_all(kernel, x):
        return jax.lax.pmean(mean_square(kernel, x), AXIS)

    found = _by_shard_map(jax.grad(of_all), check_vma=True)(kernel, x)
    np.testing.assert_allclose(found, jax.grad(mean_square)(kernel, x), rtol=1e-4)


def test_outside_of_shard_map_nothing_is_known():
    x = jnp.ones(3)
    assert varying({'x': x, 'y': np.ones(2)}) == frozenset()
    assert vary(x, ()) is x
