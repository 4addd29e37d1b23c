"""Schedules and optimisers against the arithmetic of their configs."""

import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.config import schema
from sicnn_jax.optimizers import learning_rate_schedule, make_optimizer


def test_steps_divide_by_ten_at_the_boundaries_of_section_4_1():
    config = schema.optimizer('sgd', 0.1, boundaries=(20_000, 30_000))
    schedule = learning_rate_schedule(config, 35_000)
    for step, expected in ((0, 0.1), (19_999, 0.1), (20_001, 0.01), (34_999, 0.001)):
        assert float(schedule(step)) == pytest.approx(expected)


def test_warmup_rises_linearly_and_does_not_shift_the_boundaries():
    config = schema.optimizer('sgd', 0.1, boundaries=(100,), warmup_steps=10)
    schedule = learning_rate_schedule(config, 200)
    assert float(schedule(0)) == pytest.approx(0.01)
    assert float(schedule(10)) == pytest.approx(0.1)
    assert float(schedule(99)) == pytest.approx(0.1)
    assert float(schedule(101)) == pytest.approx(0.01)


def test_cosine_ends_at_zero():
    schedule = learning_rate_schedule(
        schema.optimizer('adam', 0.2, schedule='cosine'), 50
    )
    assert float(schedule(25)) == pytest.approx(0.1)
    assert float(schedule(50)) == pytest.approx(0, abs=1e-8)


def test_sgd_is_that_of_caffe():
    """v ← μ v + clip(g) + decay · w; w ← w − lr · v; no decay of vectors."""
    config = schema.optimizer(
        'sgd', 0.1, schedule='constant', momentum=0.9, weight_decay=0.01, clip=1.0
    )
    optimizer = make_optimizer(config, 10)
    params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
    gradients = {'kernel': jnp.full((2, 2), 3.0), 'bias': jnp.full(2, 3.0)}
    state = optimizer.init(params)
    norm = np.sqrt(6 * 9)
    velocity = {'kernel': 0.0, 'bias': 0.0}
    weight = {'kernel': 1.0, 'bias': 1.0}
    for _ in range(3):
        updates, state = optimizer.update(gradients, state, params, gradient_norm=norm)
        params = {name: params[name] + updates[name] for name in params}
        for name, decay in (('kernel', 0.01), ('bias', 0.0)):
            velocity[name] = 0.9 * velocity[name] + 3 / norm + decay * weight[name]
            weight[name] -= 0.1 * velocity[name]
            np.testing.assert_allclose(params[name], weight[name], rtol=1e-5)


def test_clipping_is_by_the_norm_that_is_given():
    """It may be of more than these gradients: of those of all devices."""
    optimizer = make_optimizer(
        schema.optimizer('sgd', 1.0, schedule='constant', momentum=0.0, clip=2.0), 10
    )
    gradients = jnp.array([3.0, 4.0])
    state = optimizer.init(gradients)
    for norm, scale in ((1.0, 1.0), (2.0, 1.0), (5.0, 0.4), (10.0, 0.2), (0.0, 1.0)):
        updates, _ = optimizer.update(
            gradients, state, gradients, gradient_norm=jnp.asarray(norm)
        )
        np.testing.assert_allclose(updates, -scale * gradients, rtol=1e-6)


@pytest.mark.parametrize(
    ('field', 'value', 'choices'),
    [('name', 'rmsprop', 'sgd, adam'), ('schedule', 'linear', 'steps, cosine')],
)
def test_unknown_choices_are_named(field, value, choices):
    config = schema.optimizer('sgd', 0.1)
    config[field] = value
    with pytest.raises(ValueError, match=choices):
        make_optimizer(config, 10)
