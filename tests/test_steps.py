"""The update steps: who is updated, by what, on how many devices."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage

from sicnn_jax import algorithm, images, losses, parallel, terms
from sicnn_jax.config import schema
from sicnn_jax.descent import AXIS, counted, finite_networks, merge_metrics
from sicnn_jax.models import CNNH, CNNR
from sicnn_jax.optimizers import make_optimizer
from sicnn_jax.recipe import Recipe, both, pairs
from sicnn_jax.rules import find_rule
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
    return initialise()


def initialise():
    """Parameters of all networks."""
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


def _recipe(alpha=8.0, optimizer=None, **settings):
    cnnr, cnnh = _networks()
    # Plain SGD: the change of a parameter is proportional to its gradient.
    optimizer = optimizer or optax.sgd(1e-3)
    return Recipe(
        cnnr=cnnr,
        cnnh=cnnh,
        optimizers=dict.fromkeys(('cnnr', 'class_weights', 'cnnh'), optimizer),
        recognition_loss=losses.recognition_loss('a_softmax', margin=4),
        annealing=losses.annealing_schedule(),
        weights={'super_identity': alpha},
        **settings,
    )


def _batch(n=8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        'hr': rng.integers(0, 256, (n, 112, 96, 3), dtype=np.uint8),
        'label': rng.integers(0, IDENTITIES, n).astype(np.int32),
    }


def _step(rule, params, batch, *, recipe=None, devices=1, steps_taken=1, fused=True):
    recipe = recipe or _recipe()
    rule = find_rule(rule)
    networks = {name: params[name] for name in _networks_of(rule, recipe)}
    state = TrainState.create(networks, recipe.optimizers)
    devices = jax.devices()[:devices]
    programs = [
        parallel.map_over_devices(functools.partial(program, recipe), devices)
        for program in rule.iteration(fused=fused)
    ]
    split = recipe.split_identities
    state = parallel.to_devices(state, devices, split_identities=split)
    batch = parallel.shard(batch, devices)
    for _ in range(steps_taken):
        metrics = {}
        for program in programs:
            state, more = program(state, batch)
            metrics |= more
    state = parallel.to_host(state, num_identities=IDENTITIES if split else None)
    return state, parallel.unreplicate(metrics)


def _networks_of(rule, recipe):
    return (*rule.trains, *rule.frozen(recipe.weights))


def _is_finite(metrics):
    return all(finite_networks(metrics).values())


def _compile(rule, params, recipe):
    """XLA's program of an iteration on one device, to be looked at and not run."""
    rule = find_rule(rule)
    networks = {name: params[name] for name in _networks_of(rule, recipe)}
    state = TrainState.create(networks, recipe.optimizers)
    (program,) = rule.iteration(fused=True)
    function = jax.vmap(functools.partial(program, recipe), axis_name=AXIS)
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
    rule = find_rule(rule)
    changed = {
        name
        for name in state.networks
        if _changed(params[name], state.networks[name].params)
    }
    assert changed == set(rule.trains)
    assert set(state.networks) - changed == set(rule.frozen({'super_identity': 8.0}))
    assert state.step == 1
    assert _is_finite(metrics)
    assert all(np.isfinite(value) for value in metrics.values())


def test_no_gradient_reaches_cnnr_from_cnnh_nor_cnnh_from_cnnr(params):
    """By differentiating the whole update with respect to the other network."""
    recipe = _recipe()
    batch = _batch(2)
    lr = images.to_float(images.degrade(batch['hr']))
    hr = images.to_float(batch['hr'])

    @functools.partial(jax.vmap, axis_name=AXIS, in_axes=(None, 0), out_axes=0)
    def through_cnnh_update(cnnr, _):
        state = TrainState.create({**params, 'cnnr': cnnr}, recipe.optimizers)
        _, metrics = algorithm.update_cnnh(recipe, state, lr, hr)
        return metrics['super_identity_loss']

    @functools.partial(jax.vmap, axis_name=AXIS, in_axes=(None, 0), out_axes=0)
    def through_cnnr_update(cnnh, _):
        state = TrainState.create(params, recipe.optimizers)
        sr = recipe.cnnh.apply({'params': cnnh}, lr)
        _, metrics = algorithm.update_cnnr(recipe, state, sr, batch['label'])
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
    def recipe(split):
        clipped = schema.optimizer('sgd', 1e-3, clip=0.5, weight_decay=0.1)
        optimizers = {
            name: make_optimizer(clipped, 10)
            for name in ('cnnr', 'class_weights', 'cnnh')
        }
        return dataclasses.replace(
            _recipe(), optimizers=optimizers, split_identities=split
        )

    one, one_metrics = _step(rule, params, _batch(16), recipe=recipe(False))
    eight, eight_metrics = _step(
        rule, params, _batch(16), recipe=recipe(split), devices=8
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
    recipe, batch = _recipe(), _batch()
    whole, _ = _step('domain_integrated', params, batch, recipe=recipe)
    first, _ = _step('mixed_recognition', params, batch, recipe=recipe)
    second, _ = _step('hallucination', first.params, batch, recipe=recipe)
    stale, _ = _step('hallucination', params, batch, recipe=recipe)
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
    parts, found = _step(rule, params, _batch(), recipe=_recipe(microbatches=2))
    assert set(found) == set(metrics)
    for name, value in metrics.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
    for name in params:
        _assert_close(parts.params[name], whole.params[name])


def test_microbatches_take_less_memory(params, monkeypatch):
    """As on an accelerator: what is computed of a part is not kept for the others."""
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')

    def memory(microbatches):
        compiled = _compile('recognition', params, _recipe(microbatches=microbatches))
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
    recipe = _recipe(sampled_identities=10, optimizer=optax.sgd(1.0))
    rule = find_rule('recognition')
    devices = jax.devices()[:1]
    state = TrainState.create(
        {name: params[name] for name in rule.trains}, recipe.optimizers
    )
    (program,) = rule.iteration()
    update = parallel.map_over_devices(functools.partial(program, recipe), devices)
    state, metrics = update(
        parallel.replicate(state, devices), parallel.shard(batch, devices)
    )
    after = parallel.unreplicate(state).params['class_weights']
    learned = np.flatnonzero(np.any(after != params['class_weights'], axis=0))
    assert len(learned) == 10
    assert {0, 7, 19} <= set(learned)
    assert _is_finite(parallel.unreplicate(metrics))


def test_alpha_zero_needs_no_cnnr(params):
    state, metrics = _step('hallucination', params, _batch(), recipe=_recipe(alpha=0.0))
    assert set(state.networks) == {'cnnh'}
    assert 'super_identity_loss' not in metrics


@pytest.mark.parametrize('rule', ['hallucination', 'domain_integrated', 'joint'])
def test_views_are_the_same_on_any_devices_and_in_any_parts(rule, params):
    recipe = _recipe(alpha=800.0, identity_shift=3, identity_blur=2.0)
    expected, seen = _step(rule, params, _batch(), recipe=recipe)
    _, as_it_is = _step(rule, params, _batch(), recipe=_recipe(alpha=800.0))
    assert seen['super_identity_loss'] != as_it_is['super_identity_loss']
    assert seen['super_resolution_loss'] == pytest.approx(
        as_it_is['super_resolution_loss'], rel=1e-5
    )
    parts = dataclasses.replace(recipe, microbatches=2)
    for how in ({'devices': 4, 'recipe': recipe}, {'recipe': parts}):
        state, _ = _step(rule, params, _batch(), **how)
        for name in state.networks:
            chex.assert_trees_all_close(
                state.networks[name].params,
                expected.networks[name].params,
                rtol=1e-4,
                atol=1e-6,
            )


def test_views_follow_seed_and_step():
    def draw(step, **settings):
        recipe = _recipe(identity_shift=3, identity_blur=2.0, **settings)
        draw = functools.partial(terms.draw_views, recipe, step, 500, AXIS)
        one = jax.vmap(lambda _: draw(), axis_name=AXIS)
        return np.asarray(one(jnp.zeros(1))[0])

    views = draw(4)
    np.testing.assert_array_equal(draw(4), views)
    assert (draw(5) != views).any() and (draw(4, seed=1) != views).any()
    *discrete, blur = views.T
    for column, values in zip(
        discrete, ([*range(-3, 4)],) * 2 + ([0, 1],), strict=True
    ):
        found, counts = np.unique(column, return_counts=True)
        np.testing.assert_array_equal(found, values)
        # 500 draws; five standard deviations of a binomial count.
        share = 1 / len(values)
        assert abs(counts - 500 * share).max() < 5 * np.sqrt(500 * share * (1 - share))
    assert blur.min() >= 0 and blur.max() < 2 and abs(blur.mean() - 1) < 0.15


def test_a_view_is_the_face_moved_and_mirrored():
    faces = np.random.default_rng(0).normal(size=(3, 112, 96, 3)).astype(np.float32)
    views = np.array([[0, 0, 0, 0], [2, -3, 0, 0], [-1, 2, 1, 0]], np.float32)
    seen = np.asarray(terms.look(jnp.asarray(faces), jnp.asarray(views)))
    for face, view, found in zip(faces, views, seen, strict=True):
        down, right, mirrored = view[:3].astype(int)
        face = face[:, ::-1] if mirrored else face
        padded = np.pad(face, [(3, 3), (3, 3), (0, 0)], 'edge')
        expected = padded[3 - down : 115 - down, 3 - right : 99 - right]
        np.testing.assert_array_equal(found, expected)


def test_a_blurred_view_is_a_gaussian_of_the_face():
    face = np.random.default_rng(0).normal(size=(112, 96, 3)).astype(np.float32)
    view = jnp.array([[0.0, 0.0, 0.0, 1.5]])
    seen = np.asarray(terms.look(jnp.asarray(face[None]), view))[0]
    expected = scipy.ndimage.gaussian_filter(face, (1.5, 1.5, 0), truncate=8)
    # At the edges SciPy has another idea of what is beyond.
    inside = (slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(seen[inside], expected[inside], atol=2e-6)


def test_metrics_are_those_of_the_losses(params):
    recipe, batch = _recipe(), _batch()
    _, metrics = _step('hallucination', params, batch, recipe=recipe)
    hr = images.to_float(batch['hr'])
    lr = images.to_float(images.degrade(batch['hr']))
    sr = recipe.cnnh.apply({'params': params['cnnh']}, lr)
    features = [recipe.cnnr.apply({'params': params['cnnr']}, x) for x in (sr, hr)]
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
    _, scaled = _step('hallucination', params, batch, recipe=_recipe(loss_scale=0.01))
    np.testing.assert_allclose(
        scaled['cnnh_gradient_norm'], 0.01 * plain['cnnh_gradient_norm'], rtol=1e-4
    )


def test_joint_lets_every_loss_reach_every_network(params):
    """With the sole weight on L_FR CNNH still moves; with L_SI alone CNNR does."""
    batch = _batch()
    # SR and its loss are a function of CNNH alone: subtract nothing, compare.
    _, plain = _step('joint', params, batch, recipe=_recipe(alpha=0.0, beta=0.0))
    _, with_fr = _step('joint', params, batch, recipe=_recipe(alpha=0.0, beta=100.0))
    _, with_si = _step('joint', params, batch, recipe=_recipe(alpha=8.0, beta=0.0))
    assert plain['cnnr_gradient_norm'] == 0
    assert with_fr['cnnr_gradient_norm'] > 0
    assert with_fr['cnnh_gradient_norm'] != plain['cnnh_gradient_norm']
    assert with_si['cnnr_gradient_norm'] > 0
    assert with_si['class_weights_gradient_norm'] == 0


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
def test_a_finite_step_is_applied(backend, params, monkeypatch):
    """Where it is a branch and where it is not."""
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    recipe = _recipe(optimizer=optax.sgd(0.5))
    state, metrics = _step('recognition', params, _batch(), recipe=recipe)
    assert _is_finite(metrics)
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
        rule, broken, _batch(), recipe=_recipe(optimizer=optax.adam(1))
    )
    # Line 5 goes through the CNNR that was not updated, and is finite.
    assert finite_networks(metrics) == {
        name: name == 'cnnh' for name in find_rule(rule).trains
    }
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
    recipe = _recipe()

    def flops(rule):
        return _compile(rule, params, recipe).cost_analysis()['flops']

    lr = np.zeros((len(_batch()['label']), 14, 12, 3), np.float32)
    forward = (
        jax.jit(recipe.cnnh.apply)
        .lower({'params': params['cnnh']}, lr)
        .compile()
        .cost_analysis()['flops']
    )
    halves = flops('mixed_recognition') + flops('hallucination')
    saved = halves - flops('domain_integrated')
    assert saved == pytest.approx(forward, rel=0.2)


def test_an_update_that_is_not_mapped_says_how_it_is_called(params):
    batch = _batch()
    state = TrainState.create(params, _recipe().optimizers)
    faces = images.to_float(batch['hr'])
    with pytest.raises(ValueError, match=r"named 'batch'.*on_one_device"):
        algorithm.update_cnnr(_recipe(), state, faces, batch['label'])


def test_a_network_that_the_state_lacks_is_named(params):
    recipe = _recipe()
    state = TrainState.create({'cnnr': params['cnnr']}, recipe.optimizers)
    update = parallel.on_one_device(functools.partial(algorithm.recognition, recipe))
    with pytest.raises(ValueError, match=r'no network class_weights.*it has cnnr'):
        update(state, _batch())


def test_a_recipe_may_be_a_static_argument(params):
    assert len({_recipe(), _recipe()}) == 2


def test_unknown_rule_names_the_choices():
    with pytest.raises(ValueError, match='recognition, mixed_recognition'):
        find_rule('gan')


def test_cnnh_may_be_updated_twice_in_an_iteration(params):
    """One step is counted, so λ and the rates go on as they should."""

    def twice(recipe, state, batch):
        lr, hr, _ = pairs(recipe, batch)
        state, first = algorithm.update_cnnh(recipe, state, lr, hr)
        state, second = algorithm.update_cnnh(recipe, state, lr, hr)
        return state, merge_metrics(first, second)

    recipe, batch = _recipe(), _batch()
    update = parallel.on_one_device(functools.partial(counted(twice), recipe))
    state, metrics = update(TrainState.create(params, recipe.optimizers), batch)
    assert state.step == 1
    assert _is_finite(metrics)
    after, last = _step('hallucination', params, batch, steps_taken=2)
    assert after.step == 2
    _assert_close(state.params['cnnh'], after.params['cnnh'])
    np.testing.assert_allclose(
        metrics['super_resolution_loss'], last['super_resolution_loss'], rtol=1e-4
    )


def test_an_update_that_was_not_finite_stays_so_when_the_second_is():
    merged = merge_metrics(
        {'cnnh_finite': np.float32(0), 'loss': np.float32(1)},
        {'cnnh_finite': np.float32(1), 'loss': np.float32(2)},
    )
    assert not _is_finite(merged)
    assert merged['loss'] == 2


def test_sampled_identities_follow_the_seed(params):
    params = params | {'class_weights': np.tile(params['class_weights'], (1, 8))}

    def learned(seed):
        recipe = _recipe(sampled_identities=6, optimizer=optax.sgd(1.0), seed=seed)
        (program,) = find_rule('recognition').iteration()
        update = parallel.on_one_device(functools.partial(program, recipe))
        state = TrainState.create(
            {name: params[name] for name in ('cnnr', 'class_weights')},
            recipe.optimizers,
        )
        state, _ = update(state, _batch(2))
        change = state.params['class_weights'] != params['class_weights']
        return set(np.flatnonzero(np.any(change, axis=0)))

    assert learned(0) == learned(0)
    assert learned(0) != learned(1)


def test_faces_may_weigh_differently_in_l_fr(params):
    """SR at half: the loss is half of theirs and all of the originals', in the mean."""
    recipe, batch = _recipe(), _batch()
    lr, hr, labels = pairs(recipe, batch)
    weights = jnp.repeat(jnp.array([0.5, 1.0]), len(labels))

    def loss(faces, labels, weights=None):
        state = TrainState.create(params, recipe.optimizers)
        update = parallel.on_one_device(
            lambda state, batch: algorithm.update_cnnr(recipe, state, *batch)
        )
        batch = (faces, labels) if weights is None else (faces, labels, weights)
        return update(state, batch)[1]['recognition_loss']

    sr = recipe.cnnh.apply({'params': params['cnnh']}, lr)
    np.testing.assert_allclose(
        loss(both(sr, hr), both(labels, labels), weights),
        (0.5 * loss(sr, labels) + loss(hr, labels)) / 2,
        rtol=1e-4,
    )


def _by_teacher(params, **networks):
    """Faces and targets → state and metrics after a step of SGD at a rate of 1."""
    given = {'cnnr': params['cnnr'], **networks}
    recipe = dataclasses.replace(
        _recipe(), optimizers=dict.fromkeys(given, optax.sgd(1.0))
    )
    state = TrainState.create(given, recipe.optimizers)

    def update(state, batch):
        return algorithm.update_by_teacher(recipe, state, *batch)

    return functools.partial(parallel.on_one_device(update), state)


def test_cnnr_learns_a_teacher_on_the_hypersphere(params):
    faces = images.to_float(_batch()['hr'])
    targets = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    head = {'kernel': kernel}
    update = _by_teacher(params, head=head)
    state, metrics = update((faces, targets))
    features = np.asarray(
        _networks()[0].apply({'params': params['cnnr']}, faces), np.float64
    )

    def loss(kernel):
        mapped = features @ kernel
        a, b = (x / np.linalg.norm(x, axis=1)[:, None] for x in (mapped, targets))
        return np.mean(np.sum((a - b) ** 2, axis=1))

    np.testing.assert_allclose(metrics['distillation_loss'], loss(kernel), rtol=1e-5)
    # By finite differences; SGD's step at a rate of 1 is the gradient.
    moved = np.asarray(state.networks['head'].params['kernel']) - kernel
    for place in ((0, 0), (3, 1), (5, 2)):
        step = np.zeros_like(kernel, np.float64)
        step[place] = 1e-5
        slope = (loss(kernel + step) - loss(kernel - step)) / 2e-5
        np.testing.assert_allclose(-moved[place], slope, rtol=1e-3, atol=1e-5)
    assert _changed(params['cnnr'], state.networks['cnnr'].params)
    # A target counts by its direction alone.
    _, scaled = update((faces, 7 * targets))
    np.testing.assert_allclose(
        metrics['distillation_loss'], scaled['distillation_loss'], rtol=1e-5
    )


def test_algorithm_1_may_be_taught(params):
    targets = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    batch = _batch() | {'target': targets}
    state, metrics = _step('taught_integrated', params, batch)
    assert state.step == 1
    assert sorted(name for name in metrics if name.endswith('_loss')) == [
        'distillation_loss',
        'super_identity_loss',
        'super_resolution_loss',
    ]
    assert all(_changed(params[name], state.params[name]) for name in ('cnnr', 'cnnh'))
