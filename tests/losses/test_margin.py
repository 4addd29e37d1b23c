"""The margin losses against float64 NumPy written with arccos and an explicit k."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.losses import (
    a_softmax_loss,
    annealing_schedule,
    arcface_loss,
    cosface_loss,
    cosine_logits,
    margin_diagnostics,
    recognition_loss,
    sample_identities,
)

LOSSES = {
    'a_softmax': a_softmax_loss,
    'cosface': functools.partial(cosface_loss, scale=8.0),
    'arcface': functools.partial(arcface_loss, scale=8.0),
}
every_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)


def _batch(seed=0, n=5, feature_dim=4, num_identities=6):
    rng = np.random.default_rng(seed)
    return (
        2.0 * rng.normal(size=(n, feature_dim)),
        rng.normal(size=(feature_dim, num_identities)),
        rng.integers(0, num_identities, n),
    )


def _jnp(features, class_weights, labels, dtype=jnp.float32):
    return (
        jnp.asarray(features, dtype),
        jnp.asarray(class_weights, dtype),
        jnp.asarray(labels, jnp.int32),
    )


def _reference_psi(theta, margin):
    k = min(int(theta * margin / np.pi), margin - 1)
    return (-1) ** k * np.cos(margin * theta) - 2 * k


def _reference(kind, features, class_weights, labels, **settings):
    """One face and one identity at a time, through θ."""
    total = 0.0
    for x, label in zip(features, labels, strict=True):
        norm = np.sqrt(x @ x)
        thetas = [
            np.arccos(np.clip(x @ w / (norm * np.sqrt(w @ w)), -1, 1))
            for w in class_weights.T
        ]
        theta, margin = thetas[label], settings['margin']
        if kind == 'a_softmax':
            scale, annealing = norm, settings['annealing']
            target = annealing * np.cos(theta) + _reference_psi(theta, margin)
            target /= 1 + annealing
        elif kind == 'cosface':
            scale, target = settings['scale'], np.cos(theta) - margin
        else:
            scale = settings['scale']
            target = np.cos(theta + margin)
            if theta + margin > np.pi:
                target = np.cos(theta) - margin * np.sin(margin)
        logits = scale * np.cos(thetas)
        logits[label] = scale * target
        total += np.log(np.sum(np.exp(logits - logits.max()))) + logits.max()
        total -= logits[label]
    return total / len(labels)


def _reference_gradients(kind, features, class_weights, labels, step=1e-6, **settings):
    gradients = []
    arguments = [features, class_weights]
    for position, x in enumerate(arguments):
        gradient = np.zeros_like(x)
        for index in np.ndindex(x.shape):
            values = []
            for sign in (1, -1):
                shifted = [a.copy() for a in arguments]
                shifted[position][index] += sign * step
                values.append(_reference(kind, *shifted, labels, **settings))
            gradient[index] = (values[0] - values[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


SETTINGS = [
    ('a_softmax', {'margin': margin, 'annealing': annealing})
    for margin, annealing in [(1, 0.0), (2, 0.0), (3, 1.5), (4, 0.0), (4, 5.0), (5, 0)]
] + [
    ('cosface', {'scale': 8.0, 'margin': 0.35}),
    ('cosface', {'scale': 64.0, 'margin': 0.1}),
    ('arcface', {'scale': 8.0, 'margin': 0.5}),
    ('arcface', {'scale': 64.0, 'margin': 0.3}),
    ('arcface', {'scale': 8.0, 'margin': 0.0}),
]
PLAIN = {'a_softmax': a_softmax_loss, 'cosface': cosface_loss, 'arcface': arcface_loss}


@pytest.mark.parametrize(('kind', 'settings'), SETTINGS)
def test_values_and_gradients_on_random_batches(kind, settings):
    function = jax.jit(
        jax.value_and_grad(functools.partial(PLAIN[kind], **settings), (0, 1))
    )
    for seed in range(3):
        batch = _batch(seed)
        value, gradients = function(*_jnp(*batch))
        assert value.shape == () and value.dtype == jnp.float32
        np.testing.assert_allclose(value, _reference(kind, *batch, **settings), 2e-5)
        expected = _reference_gradients(kind, *batch, **settings)
        for found, wanted in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=2e-4)


def _at_angles(thetas, norm=1.5):
    """One face at each angle θ from its identity's weights, another identity near."""
    thetas = np.asarray(thetas, np.float64)
    features = norm * np.stack(
        [np.cos(thetas), np.sin(thetas), np.zeros_like(thetas)], 1
    )
    class_weights = np.array([[2.0, 0.0, 0.0], [0.3, 0.4, 1.2]]).T
    return features, class_weights, np.zeros(len(thetas), np.int64)


@pytest.mark.parametrize('margin', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('annealing', [0.0, 5.0])
def test_a_softmax_at_every_kink(margin, annealing):
    """ψ has a continuous derivative, so central differences hold at kinks, too."""
    function = jax.jit(
        jax.value_and_grad(
            functools.partial(a_softmax_loss, margin=margin, annealing=annealing),
            (0, 1),
        )
    )
    settings = {'margin': margin, 'annealing': annealing}
    for kink in range(margin + 1):
        for offset in (-1e-3, -1e-6, 0.0, 1e-6, 1e-3):
            theta = np.clip(kink * np.pi / margin + offset, 0, np.pi)
            batch = _at_angles([theta])
            value, gradients = function(*_jnp(*batch))
            expected = _reference('a_softmax', *batch, **settings)
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
            expected = _reference_gradients('a_softmax', *batch, step=1e-5, **settings)
            for found, wanted in zip(gradients, expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def _target_logits(loss, thetas, scale=1.0):
    """The target logit over the scale, recovered from a loss of two classes.

    The other class has zero weights, so its logit is 0 and the loss is
    log(1 + exp(−target)).
    """
    features, class_weights, labels = _at_angles(thetas, norm=1.0)
    class_weights[:, 1] = 0.0
    batch = _jnp(features[:, None], class_weights, labels[:, None])
    losses = jax.jit(jax.vmap(loss, (0, None, 0)))(*batch)
    return -np.log(np.expm1(np.asarray(losses, np.float64))) / scale


@pytest.mark.parametrize('margin', [1, 2, 3, 4, 5, 6])
def test_psi_falls_from_1_to_1_minus_2m(margin):
    thetas = np.linspace(0, np.pi, 601)
    loss = functools.partial(a_softmax_loss, margin=margin)
    psi = _target_logits(loss, thetas)
    expected = [_reference_psi(theta, margin) for theta in thetas]
    np.testing.assert_allclose(psi, expected, atol=2e-5)
    np.testing.assert_allclose(psi[[0, -1]], [1, 1 - 2 * margin], atol=1e-5)
    assert np.all(np.diff(psi) < 1e-5)
    # Never easier than plain softmax.
    assert np.all(psi < np.cos(thetas) + 1e-5)


def test_annealing_blends_cosine_and_psi():
    thetas = np.linspace(0, np.pi, 25)
    for annealing in (0.0, 1.0, 10.0):
        loss = functools.partial(a_softmax_loss, annealing=annealing)
        psi = np.array([_reference_psi(theta, 4) for theta in thetas])
        expected = (annealing * np.cos(thetas) + psi) / (1 + annealing)
        np.testing.assert_allclose(_target_logits(loss, thetas), expected, atol=1e-5)


def test_margin_1_and_infinite_annealing_are_softmax_with_normalised_weights():
    features, class_weights, labels = _batch()
    unit = class_weights / np.linalg.norm(class_weights, axis=0)
    logits = features @ unit
    log_sums = np.log(np.exp(logits).sum(axis=1))
    expected = np.mean(log_sums - logits[np.arange(len(labels)), labels])
    batch = _jnp(features, class_weights, labels)
    np.testing.assert_allclose(a_softmax_loss(*batch, margin=1), expected, rtol=1e-5)
    limit = a_softmax_loss(*batch, annealing=jnp.inf)
    np.testing.assert_allclose(limit, expected, rtol=1e-5)


def test_arcface_falls_over_all_angles():
    thetas = np.linspace(0, np.pi, 601)
    for margin in (0.1, 0.5, 1.0, np.pi / 2):
        loss = functools.partial(arcface_loss, scale=4.0, margin=margin)
        target = _target_logits(loss, thetas, scale=4.0)
        inside = thetas < np.pi - margin - 1e-3
        expected = np.cos(thetas + margin)
        np.testing.assert_allclose(target[inside], expected[inside], atol=5e-4)
        assert np.all(np.diff(target) < 1e-5)


@pytest.mark.parametrize('theta', [3e-3, 0.02, np.pi - 0.51, np.pi - 0.49, 3.1])
def test_arcface_gradients_near_its_tip_and_its_step(theta):
    settings = {'scale': 8.0, 'margin': 0.5}
    batch = _at_angles([theta])
    loss = functools.partial(arcface_loss, **settings)
    gradients = jax.jit(jax.grad(loss, (0, 1)))(*_jnp(*batch))
    expected = _reference_gradients('arcface', *batch, **settings)
    for found, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=5e-3)


@every_loss
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_hard_inputs_give_finite_values_and_gradients(loss, dtype):
    function = jax.jit(jax.value_and_grad(loss, (0, 1)))
    axis = [[1.0, 0.0, 0.0]]
    cases = {
        'zero features': (np.zeros((2, 3)), _batch(0, 2, 3, 3)[1], [0, 2]),
        'zero weights': (_batch(0, 2, 3, 3)[0], np.zeros((3, 3)), [0, 2]),
        'one zero column': (axis, [[0.0, 1, 1], [0, 1, 0], [0, 0, 1]], [0]),
        'θ = 0': (axis, np.eye(3), [0]),
        'θ = 0, not exact': ([[0.1, 0.7, 0.3]], [[0.1, 1], [0.7, 0], [0.3, 0]], [0]),
        'θ = π': (axis, -np.eye(3), [0]),
        'θ = π, not exact': ([[0.1, 0.7, 0.3]], [[-0.1, 1], [-0.7, 0], [-0.3, 0]], [0]),
        'tiny': (1e-13 * np.ones((1, 3)), 1e-20 * np.eye(3), [1]),
        'small': (1e-11 * np.ones((1, 3)), 1e-11 * np.eye(3), [1]),
        'huge': (1e4 * np.ones((1, 3)), 1e8 * np.eye(3), [1]),
    }
    for name, case in cases.items():
        value, gradients = function(*_jnp(*case, dtype=dtype))
        assert jnp.isfinite(value) and value.dtype == jnp.float32, name
        for gradient in gradients:
            assert gradient.dtype == dtype and jnp.all(jnp.isfinite(gradient)), name


@every_loss
def test_zero_features_cost_what_guessing_does(loss):
    _, class_weights, labels = _batch()
    batch = _jnp(np.zeros((5, 4)), class_weights, labels)
    value, gradient = jax.jit(jax.value_and_grad(loss))(*batch)
    np.testing.assert_array_equal(gradient, 0.0)
    if loss is a_softmax_loss:
        np.testing.assert_allclose(value, np.log(6), rtol=1e-6)


def test_arcface_is_exact_at_its_tip():
    """‖x‖ = 1, x = w₀, and another identity at an angle of 0.5."""
    weights = np.array([[1.0, np.cos(0.5)], [0.0, np.sin(0.5)]], np.float32)
    loss = arcface_loss(weights[:, :1].T, weights, np.array([0]), scale=64.0)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-5)


@every_loss
def test_float32_stays_float32_where_float64_is_on(loss):
    # Before JAX 0.8 it was elsewhere.
    on = jax.enable_x64 if hasattr(jax, 'enable_x64') else jax.experimental.enable_x64
    with on(True):
        features, weights = (np.ones((6, 6), np.float32) for _ in range(2))
        options = {'annealing': np.float64(5)} if loss is a_softmax_loss else {}
        value = loss(features, weights, np.arange(6), **options)
        assert value.dtype == jnp.float32
        assert cosine_logits(features, weights).dtype == jnp.float32


@every_loss
def test_bfloat16_is_computed_in_float32(loss):
    batch = _jnp(*_batch(), dtype=jnp.bfloat16)
    exact = loss(*(x.astype(jnp.float32) for x in batch[:2]), batch[2])
    assert loss(*batch) == exact


@every_loss
def test_invariances(loss):
    features, class_weights, labels = _batch(1)
    compiled = jax.jit(loss)
    value = compiled(*_jnp(features, class_weights, labels))
    rng = np.random.default_rng(2)
    scales = rng.uniform(0.1, 10, 6)
    classes, faces = rng.permutation(6), rng.permutation(5)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    same = [
        (features, class_weights * scales, labels),
        (features, class_weights[:, classes], np.argsort(classes)[labels]),
        (features[faces], class_weights, labels[faces]),
        (features @ rotation, rotation.T @ class_weights, labels),
    ]
    for batch in same:
        np.testing.assert_allclose(compiled(*_jnp(*batch)), value, rtol=2e-5)
    scaled = compiled(*_jnp(3 * features, class_weights, labels))
    # The feature norm matters to A-Softmax alone.
    assert (abs(scaled - value) > 1e-3) == (loss is a_softmax_loss)


@every_loss
def test_vmap_equals_a_loop(loss):
    batches = [_jnp(*_batch(seed)) for seed in range(3)]
    stacked = [jnp.stack(parts) for parts in zip(*batches, strict=True)]
    losses = jax.jit(jax.vmap(loss))(*stacked)
    np.testing.assert_allclose(losses, [loss(*batch) for batch in batches], rtol=1e-5)


@every_loss
@pytest.mark.parametrize('label', [-1, 6])
def test_a_label_out_of_range_is_nan(loss, label):
    features, class_weights, labels = _batch()
    labels[2] = label
    assert jnp.isnan(loss(*_jnp(features, class_weights, labels)))


@every_loss
def test_shapes_and_types_are_checked(loss):
    features, class_weights, labels = _jnp(*_batch())
    wrong = [
        (features, class_weights.T, labels),
        (features, class_weights, labels[:, None]),
        (features, class_weights, labels[:1]),
        (features, class_weights, labels.astype(jnp.float32)),
        (features[0], class_weights, labels[:1]),
    ]
    for arguments in wrong:
        with pytest.raises(AssertionError):
            loss(*arguments)


@every_loss
def test_class_weights_of_pytorch_are_named(loss):
    features, class_weights, labels = _batch()
    with pytest.raises(AssertionError, match=r'\[6, 4\]; expected .* transpose them'):
        loss(features, class_weights.T, labels)


@every_loss
def test_lists_are_arrays(loss):
    arguments = _batch()
    listed = [argument.tolist() for argument in arguments]
    np.testing.assert_array_equal(loss(*listed), loss(*_jnp(*arguments)))


def test_settings_of_numpy_and_negative_annealing():
    arguments = _jnp(*_batch())
    found = a_softmax_loss(*arguments, margin=np.int64(4))
    np.testing.assert_array_equal(found, a_softmax_loss(*arguments))
    with pytest.raises(ValueError, match=r'-1\.0; λ is at least 0'):
        a_softmax_loss(*arguments, annealing=-1.0)


@pytest.mark.parametrize('margin', [0, -1, 4.0, 2.5, True, '4', None])
def test_a_softmax_refuses_margins_that_are_not_positive_ints(margin):
    with pytest.raises(ValueError, match='margin of A-Softmax'):
        a_softmax_loss(*_jnp(*_batch()), margin=margin)


@pytest.mark.parametrize('margin', [-0.1, 1.6, 4])
def test_arcface_refuses_margins_that_are_no_such_angles(margin):
    with pytest.raises(ValueError, match='margin of ArcFace'):
        arcface_loss(*_jnp(*_batch()), margin=margin)


def test_one_compilation_serves_all_annealing():
    traces = []

    @jax.jit
    def loss(annealing):
        traces.append(annealing)
        return a_softmax_loss(*_jnp(*_batch()), annealing=annealing)

    for annealing in (1000.0, 5.0, 0.0):
        expected = _reference('a_softmax', *_batch(), margin=4, annealing=annealing)
        np.testing.assert_allclose(loss(annealing), expected, rtol=2e-5)
    assert len(traces) == 1


def test_annealing_schedule_is_that_of_sphereface():
    annealing = jax.jit(annealing_schedule())
    for step in (0, 1, 100, 1650, 1659, 5000, 35000):
        expected = max(5.0, 1000.0 / (1 + 0.12 * step))
        value = annealing(jnp.int32(step))
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_annealing_schedule_settings():
    settings = {'base': 1500.0, 'gamma': 0.1, 'power': 0.5, 'minimum': 2.0}
    annealing = annealing_schedule(**settings)
    np.testing.assert_allclose(annealing(30), 1500 / (1 + 3) ** 0.5, rtol=1e-5)
    resumed = annealing_schedule(**settings, offset=1000)
    assert resumed(7) == annealing(1007)
    assert annealing_schedule(base=0.0, minimum=0.0)(3) == 0.0
    with pytest.raises(ValueError, match='gamma is -0'):
        annealing_schedule(gamma=-0.1)


def test_cosine_logits():
    features, class_weights, labels = _batch()
    expected = features @ class_weights
    expected /= np.linalg.norm(features, axis=1)[:, None]
    expected /= np.linalg.norm(class_weights, axis=0)
    found = cosine_logits(*_jnp(features, class_weights, labels)[:2])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_diagnostics():
    features, class_weights, labels = _batch(3, n=20)
    found = jax.jit(margin_diagnostics)(*_jnp(features, class_weights, labels))
    norms = np.linalg.norm(features, axis=1)
    cosines = features @ class_weights / norms[:, None]
    cosines /= np.linalg.norm(class_weights, axis=0)
    expected = {
        'feature_norm': norms.mean(),
        'target_cosine': cosines[np.arange(20), labels].mean(),
        'recognition_accuracy': np.mean(cosines.argmax(axis=1) == labels),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == ()
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_diagnostics_share_the_matrix_product_of_the_loss():
    batch = _jnp(*_batch(0, n=32, feature_dim=64, num_identities=500))

    def flops(function):
        return jax.jit(function).lower(*batch).compile().cost_analysis()['flops']

    gradients = jax.value_and_grad(a_softmax_loss, (0, 1))
    alone = flops(gradients)
    both = flops(lambda *batch: (gradients(*batch), margin_diagnostics(*batch)))
    product = 2 * 32 * 64 * 500
    assert both - alone < product / 2


@pytest.mark.parametrize(
    ('name', 'settings'),
    [
        ('a_softmax', {'margin': 3}),
        ('a_softmax', {}),
        ('cosface', {'scale': 30.0, 'margin': 0.2}),
        ('arcface', {'margin': 0.3}),
    ],
)
def test_recognition_loss_by_name(name, settings):
    batch = _jnp(*_batch())
    loss = recognition_loss(name, **settings)
    assert loss(*batch) == PLAIN[name](*batch, **settings)
    annealed = jax.jit(lambda annealing: loss(*batch, annealing=annealing))(2.0)
    if name == 'a_softmax':
        settings = {**settings, 'annealing': 2.0}
    expected = PLAIN[name](*batch, **settings)
    np.testing.assert_allclose(annealed, expected, rtol=1e-6)


def test_recognition_loss_names_the_choices():
    with pytest.raises(ValueError, match='a_softmax, cosface, arcface'):
        recognition_loss('softmax')
    with pytest.raises(ValueError, match='no setting scale, only margin'):
        recognition_loss('a_softmax', scale=64.0)


@pytest.mark.parametrize('name', ['a_softmax', 'cosface', 'arcface'])
@pytest.mark.parametrize('identities', [40, 37])
def test_identities_split_over_devices_give_the_same_loss_and_gradients(
    name, identities
):
    devices, faces = 8, 3
    keys = jax.random.split(jax.random.key(0), 3)
    features = 3 * jax.random.normal(keys[0], (devices * faces, 16))
    class_weights = jax.random.normal(keys[1], (16, identities))
    labels = jax.random.randint(keys[2], (devices * faces,), 0, identities)
    loss = functools.partial(recognition_loss(name), annealing=3.0)
    value, gradients = jax.value_and_grad(loss, (0, 1))(features, class_weights, labels)

    def on_a_device(*arguments):
        split = functools.partial(loss, axis_name='batch')
        diagnostics = margin_diagnostics(*arguments, axis_name='batch')
        return jax.value_and_grad(split, (0, 1))(*arguments), diagnostics

    padded = jnp.pad(class_weights, ((0, 0), (0, -identities % devices)))
    (values, (by_features, by_weights)), diagnostics = jax.pmap(
        on_a_device, axis_name='batch', in_axes=(0, 1, 0), out_axes=((0, (0, 1)), 0)
    )(
        features.reshape(devices, faces, 16),
        padded.reshape(16, devices, -1),
        labels.reshape(devices, faces),
    )
    np.testing.assert_allclose(values, np.full(devices, value), rtol=1e-6)
    by_features = by_features.reshape(features.shape) / devices
    np.testing.assert_allclose(by_features, gradients[0], rtol=1e-5, atol=1e-6)
    by_weights = by_weights.reshape(padded.shape) / devices
    by_weights, of_padding = jnp.split(by_weights, [identities], axis=1)
    np.testing.assert_allclose(by_weights, gradients[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(of_padding, 0)
    expected = margin_diagnostics(features, class_weights, labels)
    for field, of_devices in diagnostics.items():
        np.testing.assert_allclose(
            of_devices, np.full(devices, expected[field]), rtol=1e-5
        )


def test_a_label_that_no_device_holds_gives_nan():
    features, class_weights = jnp.ones((8, 1, 4)), jnp.ones((8, 4, 2))
    labels = jnp.arange(9, 17, dtype=jnp.int32)[:, None]
    split = functools.partial(a_softmax_loss, axis_name='batch')
    losses = jax.pmap(split, axis_name='batch')(features, class_weights, labels)
    assert np.isnan(losses).all()


def test_all_identities_sampled_are_the_loss_itself():
    features, class_weights, labels = _jnp(*_batch())
    loss = recognition_loss('a_softmax')
    sampled = sample_identities(jax.random.key(0), class_weights, labels, 6)
    np.testing.assert_allclose(
        loss(features, *sampled), loss(features, class_weights, labels), rtol=1e-6
    )


def test_sampled_are_the_labels_and_others_once_each():
    class_weights = jnp.arange(40.0)[None]
    labels = jnp.array([3, 39, 3])
    draws = [
        sample_identities(jax.random.key(seed), class_weights, labels, 5)
        for seed in range(20)
    ]
    for columns, places in draws:
        assert len(set(columns[0].tolist())) == 5
        np.testing.assert_array_equal(columns[0][places], labels)
    # Each of the 38 others is as likely: 60 draws of them, at least half of them met.
    assert len({c for columns, _ in draws for c in columns[0].tolist()}) > 21


def test_identities_sampled_on_every_device():
    devices, faces, identities = 8, 2, 200
    class_weights = jnp.arange(1.0, identities + 1)
    labels = jax.random.randint(jax.random.key(1), (devices, faces), 0, identities)
    sample = jax.pmap(
        functools.partial(sample_identities, count=16, axis_name='batch'),
        axis_name='batch',
    )
    columns, places = sample(
        jax.random.split(jax.random.key(0), devices),
        class_weights.reshape(devices, 1, -1),
        labels,
    )
    assert columns.shape == (devices, 1, 16)
    np.testing.assert_array_equal(columns.reshape(-1)[places], labels + 1)


@pytest.mark.parametrize('count', [2, 7])
def test_too_few_or_many_identities_to_sample_are_refused(count):
    _, class_weights, labels = _jnp(*_batch(n=3))
    with pytest.raises(ValueError, match=f'sampled identities is {count}'):
        sample_identities(jax.random.key(0), class_weights, labels, count)


def test_a_label_out_of_range_stays_so_when_sampled():
    features, class_weights, _ = _jnp(*_batch(n=2))
    sampled = sample_identities(jax.random.key(0), class_weights, jnp.array([0, 6]), 4)
    assert np.isnan(recognition_loss('a_softmax')(features, *sampled))
