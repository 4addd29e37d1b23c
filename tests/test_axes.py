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
from sicnn_jax.train_state import TrainState
from tests.test_steps import IDENTITIES, _batch, _networks, _recipe

needs_shard_map = pytest.mark.skipif(
    not hasattr(jax, 'shard_map'), reason='this JAX has it elsewhere'
)
WAYS = {'of a CPU': contextlib.nullcontext, 'neutral': convolutions.on_any_backend}


@pytest.fixture(scope='module')
def state():
    cnnr, cnnh = _networks()
    hr = images.to_float(_batch()['hr'])
    params = {
        'cnnr': jax.jit(cnnr.init)(jax.random.key(0), hr)['params'],
        'class_weights': jax.random.normal(jax.random.key(1), (6, IDENTITIES)),
        'cnnh': jax.jit(cnnh.init)(jax.random.key(2), hr[:, ::8, ::8])['params'],
    }
    return TrainState.create(params, _recipe().optimizers)


def _mesh():
    kinds = {}
    if hasattr(jax.sharding, 'AxisType'):
        kinds['axis_types'] = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((8,), (AXIS,), **kinds)


def _by_shard_map(update, check_vma):
    return jax.jit(
        jax.shard_map(
            update,
            mesh=_mesh(),
            in_specs=(P(), P(AXIS)),
            out_specs=P(),
            check_vma=check_vma,
        )
    )


def _by_pmap(update):
    mapped = jax.pmap(update, axis_name=AXIS, in_axes=(None, 0))

    def of(state, batch):
        batch = jax.tree.map(lambda leaf: leaf.reshape(8, -1, *leaf.shape[1:]), batch)
        return jax.tree.map(lambda leaf: leaf[0], mapped(state, batch))

    return of


def _by_one(update):
    """On one device, or by XLA on as many as the batch is on."""
    mapped = jax.jit(jax.vmap(update, axis_name=AXIS, in_axes=(None, 0)))

    def of(state, batch):
        batch = jax.tree.map(lambda leaf: leaf[None], batch)
        return jax.tree.map(lambda leaf: leaf[0], mapped(state, batch))

    return of


def _by_vmap(update):
    mapped = jax.jit(jax.vmap(update, axis_name=AXIS, in_axes=(None, 0)))

    def of(state, batch):
        batch = jax.tree.map(lambda leaf: leaf.reshape(8, -1, *leaf.shape[1:]), batch)
        return jax.tree.map(lambda leaf: leaf[0], mapped(state, batch))

    return of


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


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('loop', LOOPS.values(), ids=LOOPS)
def test_an_update_makes_the_step_of_one_device(loop, way, state):
    update = functools.partial(algorithm.recognition, _recipe())
    expected = _by_one(update)(state, _batch())
    with WAYS[way]():
        found = loop(update)(state, _batch())
    assert expected[1]['cnnr_gradient_norm'] > 0.1
    _assert_close(found, expected)


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
def test_split_identities_in_a_shard_map(check_vma, state):
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
    batch = _batch()
    found, metrics = jax.jit(
        jax.shard_map(
            functools.partial(algorithm.recognition, recipe),
            mesh=_mesh(),
            in_specs=(specs, P(AXIS)),
            out_specs=(specs, P()),
            check_vma=check_vma,
        )
    )(split, batch)
    update = functools.partial(algorithm.recognition, _recipe())
    expected, of_one = _by_one(update)(state, batch)
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
    found = jax.shard_map(
        jax.grad(functools.partial(loss, axis_name=AXIS), 1),
        mesh=_mesh(),
        in_specs=(P(AXIS), P(None, AXIS), P(AXIS)),
        out_specs=P(None, AXIS),
        check_vma=check_vma,
    )(features, weights, labels)
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
    found = jax.jit(
        jax.shard_map(
            gradient,
            mesh=_mesh(),
            in_specs=(P(), P(AXIS)),
            out_specs=P(),
            check_vma=check_vma,
        )
    )(params, x)
    expected = jax.jit(jax.grad(mean_square))(params, x)
    _assert_close(found, expected)


def test_outside_of_shard_map_nothing_is_known():
    x = jnp.ones(3)
    assert varying({'x': x, 'y': np.ones(2)}) == frozenset()
    assert vary(x, ()) is x
