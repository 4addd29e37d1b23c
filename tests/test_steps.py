"""The update steps: who is updated, by what, on how many devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from sicnn_jax import images, losses, parallel, steps, train
from sicnn_jax.models import CNNH, CNNR
from sicnn_jax.optimizers import make_optimizer
from sicnn_jax.train_state import TrainState

IDENTITIES = 5
RULES = (
    'recognition',
    'mixed_recognition',
    'hallucination',
    'domain_integrated',
    'joint',
)


@pytest.fixture(scope='module')
def params():
    cnnr, cnnh = _networks()
    hr = images.to_float(_batch()['hr'])
    return {
        'cnnr': jax.jit(cnnr.init)(jax.random.key(0), hr)['params'],
        'class_weights': jax.random.normal(jax.random.key(1), (6, IDENTITIES)),
        'cnnh': jax.jit(cnnh.init)(jax.random.key(2), hr[:, ::8, ::8])['params'],
    }


def _networks():
    return (
        CNNR(widths=(2, 3, 4, 4), depths=(1, 1, 1, 1), feature_dim=6),
        CNNH(width=3, growth=2, depth=1, deconv_width=3, final_depth=1),
    )


def _method(alpha=8.0, optimizer=None, **settings):
    cnnr, cnnh = _networks()
    # Plain SGD: the change of a parameter is proportional to its gradient.
    optimizer = optimizer or optax.sgd(1e-3)
    return steps.Method(
        cnnr=cnnr,
        cnnh=cnnh,
        optimizers=dict.fromkeys(('cnnr', 'class_weights', 'cnnh'), optimizer),
        recognition_loss=losses.recognition_loss('a_softmax', margin=4),
        annealing=losses.annealing_schedule(),
        alpha=alpha,
        **settings,
    )


def _batch(n=8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        'hr': rng.integers(0, 256, (n, 112, 96, 3), dtype=np.uint8),
        'label': rng.integers(0, IDENTITIES, n).astype(np.int32),
    }


def _step(rule, params, batch, *, method=None, devices=1, steps_taken=1, fused=True):
    method = method or _method()
    update = steps.find_update(rule, method.alpha, fused=fused)
    networks = {name: params[name] for name in (*update.trained, *update.frozen)}
    state = TrainState.create(networks, method.optimizers)
    devices = jax.devices()[:devices]
    programs = [
        parallel.parallel(functools.partial(program, method), devices)
        for program in update.programs
    ]
    state = train.place(method, state, devices)
    batch = parallel.shard(batch, devices)
    for _ in range(steps_taken):
        state, metrics = programs[0](state, batch)
        for program in programs[1:]:
            state, more = program(state, batch)
            metrics = steps.merge_metrics(metrics, more)
    return train.fetch(method, IDENTITIES, state), parallel.unreplicate(metrics)


def _compile(rule, params, method):
    """XLA's program of an iteration on one device, to be looked at and not run."""
    update = steps.find_update(rule, method.alpha)
    networks = {name: params[name] for name in (*update.trained, *update.frozen)}
    state = TrainState.create(networks, method.optimizers)
    (program,) = update.programs
    function = jax.vmap(functools.partial(program, method), axis_name=steps.AXIS)
    stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (state, _batch()))
    return jax.jit(function).lower(*stacked).compile()


def _changed(before, after):
    return not all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )


@pytest.mark.parametrize('rule', RULES)
def test_each_rule_updates_its_networks_and_no_other(rule, params):
    state, metrics = _step(rule, params, _batch())
    update = steps.find_update(rule, 8.0)
    changed = {
        name
        for name in state.networks
        if _changed(params[name], state.networks[name].params)
    }
    assert changed == set(update.trained)
    assert set(state.networks) - changed == set(update.frozen)
    assert state.step == 1
    assert metrics['finite'] == 1
    assert all(np.isfinite(value) for value in metrics.values())


def test_no_gradient_reaches_cnnr_from_cnnh_nor_cnnh_from_cnnr(params):
    """By differentiating the whole update with respect to the other network."""
    method = _method()
    batch = _batch(2)
    lr = images.to_float(images.degrade(batch['hr']))
    hr = images.to_float(batch['hr'])

    @functools.partial(jax.vmap, axis_name=steps.AXIS, in_axes=(None, 0), out_axes=0)
    def through_cnnh_update(cnnr, _):
        state = TrainState.create({**params, 'cnnr': cnnr}, method.optimizers)
        _, metrics = steps.update_cnnh(method, state, lr, hr)
        return metrics['super_identity_loss']

    @functools.partial(jax.vmap, axis_name=steps.AXIS, in_axes=(None, 0), out_axes=0)
    def through_cnnr_update(cnnh, _):
        state = TrainState.create(params, method.optimizers)
        sr = method.cnnh.apply({'params': cnnh}, lr)
        _, metrics = steps.update_cnnr(method, state, sr, batch['label'])
        return metrics['recognition_loss']

    for function, network in (
        (through_cnnh_update, 'cnnr'),
        (through_cnnr_update, 'cnnh'),
    ):
        gradients = jax.jit(jax.grad(lambda p, f=function: f(p, jnp.zeros(1)).sum()))(
            params[network]
        )
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize('rule', ['recognition', 'domain_integrated', 'joint'])
@pytest.mark.parametrize('split', [False, True])
def test_eight_devices_equal_one(rule, split, params):
    def method(split):
        clipped = common.optimizer('sgd', 1e-3, clip=0.5, weight_decay=0.1)
        optimizers = {
            name: make_optimizer(clipped, 10)
            for name in ('cnnr', 'class_weights', 'cnnh')
        }
        return dataclasses.replace(
            _method(), optimizers=optimizers, split_identities=split
        )

    one, one_metrics = _step(rule, params, _batch(16), method=method(False))
    eight, eight_metrics = _step(
        rule, params, _batch(16), method=method(split), devices=8
    )
    for name in one_metrics:
        np.testing.assert_allclose(
            eight_metrics[name], one_metrics[name], rtol=2e-4, atol=1e-6, err_msg=name
        )
    for name, before in params.items():
        if name not in one.networks:
            continue
        for a, b, start in zip(
            jax.tree.leaves(one.networks[name].params),
            jax.tree.leaves(eight.networks[name].params),
            jax.tree.leaves(before),
            strict=True,
        ):
            step_size = np.abs(a - start).max()
            np.testing.assert_allclose(b, a, atol=2e-3 * step_size + 1e-7)


def test_cnnh_learns_through_the_cnnr_that_was_just_updated(params):
    """Algorithm 1 in one program equals its two halves done one after the other."""
    method, batch = _method(), _batch()
    whole, _ = _step('domain_integrated', params, batch, method=method)
    first, _ = _step('mixed_recognition', params, batch, method=method)
    second, _ = _step('hallucination', first.params, batch, method=method)
    stale, _ = _step('hallucination', params, batch, method=method)
    _assert_close(whole.params['cnnr'], first.params['cnnr'])
    _assert_close(whole.params['cnnh'], second.params['cnnh'])
    assert _distance(whole, second) < 0.05 * _distance(whole, stale)


def test_one_program_equals_two(params):
    """The fused iteration of Algorithm 1 and its two updates, mapped one by one."""
    fused, fused_metrics = _step('domain_integrated', params, _batch(), steps_taken=2)
    halves, metrics = _step(
        'domain_integrated', params, _batch(), steps_taken=2, fused=False
    )
    assert halves.step == fused.step == 2
    assert set(metrics) == set(fused_metrics)
    for name, value in metrics.items():
        np.testing.assert_allclose(fused_metrics[name], value, rtol=1e-4, err_msg=name)
    for name in params:
        _assert_close(fused.params[name], halves.params[name])


def test_microbatches_make_the_same_step(params):
    rule = 'domain_integrated'
    whole, metrics = _step(rule, params, _batch())
    parts, found = _step(rule, params, _batch(), method=_method(microbatches=2))
    assert set(found) == set(metrics)
    for name, value in metrics.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
    for name in params:
        _assert_close(parts.params[name], whole.params[name])


def test_microbatches_take_less_memory(params, monkeypatch):
    """As on an accelerator: what is computed of a part is not kept for the others."""
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')

    def memory(microbatches):
        compiled = _compile('recognition', params, _method(microbatches=microbatches))
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(4) < memory(1) / 2


def _distance(a, b):
    difference = jax.tree.map(np.subtract, a.params['cnnh'], b.params['cnnh'])
    return float(optax.global_norm(difference))


def _assert_close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_only_the_sampled_identities_learn(params):
    """Ten of twenty, the three of the batch among them."""
    params = params | {'class_weights': np.tile(params['class_weights'], (1, 4))}
    batch = _batch() | {'label': np.array([0, 7, 19, 0, 7, 19, 0, 7], np.int32)}
    method = _method(sampled_identities=10, optimizer=optax.sgd(1.0))
    update = steps.find_update('recognition', 0.0)
    devices = jax.devices()[:1]
    state = TrainState.create(
        {name: params[name] for name in update.trained}, method.optimizers
    )
    update = parallel.parallel(functools.partial(update.programs[0], method), devices)
    state, metrics = update(
        parallel.replicate(state, devices), parallel.shard(batch, devices)
    )
    after = parallel.unreplicate(state).params['class_weights']
    learned = np.flatnonzero(np.any(after != params['class_weights'], axis=0))
    assert len(learned) == 10
    assert {0, 7, 19} <= set(learned)
    assert parallel.unreplicate(metrics)['finite'] == 1


def test_alpha_zero_needs_no_cnnr(params):
    state, metrics = _step('hallucination', params, _batch(), method=_method(alpha=0.0))
    assert set(state.networks) == {'cnnh'}
    assert 'super_identity_loss' not in metrics


def test_metrics_are_those_of_the_losses(params):
    method, batch = _method(), _batch()
    _, metrics = _step('hallucination', params, batch, method=method)
    hr = images.to_float(batch['hr'])
    lr = images.to_float(images.degrade(batch['hr']))
    sr = method.cnnh.apply({'params': params['cnnh']}, lr)
    features = [method.cnnr.apply({'params': params['cnnr']}, x) for x in (sr, hr)]
    np.testing.assert_allclose(
        metrics['super_resolution_loss'],
        np.mean(np.sum(np.square(np.float64(sr) - np.float64(hr)), (1, 2, 3))),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        metrics['super_identity_loss'], losses.super_identity_loss(*features), rtol=1e-4
    )


def test_loss_scale_scales_the_gradient_of_cnnh(params):
    batch = _batch()
    _, plain = _step('hallucination', params, batch)
    _, scaled = _step('hallucination', params, batch, method=_method(loss_scale=0.01))
    np.testing.assert_allclose(
        scaled['cnnh_gradient_norm'], 0.01 * plain['cnnh_gradient_norm'], rtol=1e-4
    )


def test_joint_lets_every_loss_reach_every_network(params):
    """With the sole weight on L_FR CNNH still moves; with L_SI alone CNNR does."""
    batch = _batch()
    # SR and its loss are a function of CNNH alone: subtract nothing, compare.
    _, plain = _step('joint', params, batch, method=_method(alpha=0.0, beta=0.0))
    _, with_fr = _step('joint', params, batch, method=_method(alpha=0.0, beta=100.0))
    _, with_si = _step('joint', params, batch, method=_method(alpha=8.0, beta=0.0))
    assert plain['cnnr_gradient_norm'] == 0
    assert with_fr['cnnr_gradient_norm'] > 0
    assert with_fr['cnnh_gradient_norm'] != plain['cnnh_gradient_norm']
    assert with_si['cnnr_gradient_norm'] > 0
    assert with_si['class_weights_gradient_norm'] == 0


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
def test_a_finite_step_is_applied(backend, params, monkeypatch):
    """Where it is a branch and where it is not."""
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    method = _method(optimizer=optax.sgd(0.5))
    state, metrics = _step('recognition', params, _batch(), method=method)
    assert metrics['finite'] == 1
    change = params['class_weights'] - state.params['class_weights']
    np.testing.assert_allclose(
        np.linalg.norm(change), 0.5 * metrics['class_weights_gradient_norm'], rtol=1e-4
    )


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
@pytest.mark.parametrize('rule', ['recognition', 'domain_integrated'])
def test_a_step_that_is_not_finite_is_not_applied(rule, backend, params, monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    broken = jax.tree.map(np.array, params)
    broken['class_weights'][0, 0] = np.nan
    state, metrics = _step(
        rule, broken, _batch(), method=_method(optimizer=optax.adam(1))
    )
    assert metrics['finite'] == 0
    for name in ('cnnr', 'class_weights'):
        assert not any(
            np.any(leaf) for leaf in jax.tree.leaves(state.networks[name].opt_state)
        )
        np.testing.assert_equal(state.networks[name].params, broken[name])


def test_annealing_follows_the_step_of_the_state(params):
    _, first = _step('recognition', params, _batch())
    _, third = _step('recognition', params, _batch(), steps_taken=3)
    schedule = losses.annealing_schedule()
    assert first['annealing'] == pytest.approx(float(schedule(0)))
    assert third['annealing'] == pytest.approx(float(schedule(2)))


def test_cnnh_is_evaluated_once_an_iteration(params):
    """XLA merges the two forward passes of Algorithm 1 (Sec. 3.6)."""
    method = _method()

    def flops(rule):
        return _compile(rule, params, method).cost_analysis()['flops']

    lr = np.zeros((len(_batch()['label']), 14, 12, 3), np.float32)
    forward = (
        jax.jit(method.cnnh.apply)
        .lower({'params': params['cnnh']}, lr)
        .compile()
        .cost_analysis()['flops']
    )
    halves = flops('mixed_recognition') + flops('hallucination')
    saved = halves - flops('domain_integrated')
    assert saved == pytest.approx(forward, rel=0.2)


def test_unknown_rule_names_the_choices():
    with pytest.raises(ValueError, match='recognition, mixed_recognition'):
        steps.find_update('gan', 0.0)
