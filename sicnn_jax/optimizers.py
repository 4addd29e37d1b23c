"""The optimiser of a stage, built from its config."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

SCHEDULES = ('steps', 'cosine', 'constant')
OPTIMIZERS = ('sgd', 'adam')


def learning_rate_schedule(config: ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then the schedule of the config.

    Args:
      config: `learning_rate`, `schedule` ('steps' divides by 10 at each of
        `boundaries`, as in Sec. 4.1; 'cosine' falls to zero at the last step;
        'constant'), `boundaries`, `warmup_steps`.
      steps: length of the stage.

    Raises:
      ValueError: for an unknown schedule.
    """
    peak = config.learning_rate
    if config.schedule == 'steps':
        schedule = optax.piecewise_constant_schedule(
            peak, {boundary: 0.1 for boundary in config.boundaries}
        )
    elif config.schedule == 'cosine':
        schedule = optax.cosine_decay_schedule(peak, steps)
    elif config.schedule == 'constant':
        schedule = optax.constant_schedule(peak)
    else:
        raise ValueError(
            f'optimizer.schedule is {config.schedule!r}; '
            f'expected one of {", ".join(SCHEDULES)}.'
        )
    if not config.warmup_steps:
        return schedule
    # `join_schedules` would shift the boundaries by the warm-up.
    warmup = optax.linear_schedule(1 / config.warmup_steps, 1.0, config.warmup_steps)
    return lambda step: schedule(step) * warmup(step)


def make_optimizer(
    config: ConfigDict, steps: int
) -> optax.GradientTransformationExtraArgs:
    """Clipping by global norm, then SGD with momentum or Adam.

    Args:
      config: the fields of `learning_rate_schedule` and `name` ('sgd' or 'adam'),
        `momentum` (of SGD), `weight_decay` (coupled with SGD, as in Caffe; of
        kernels and matrices only, never of biases and PReLU slopes), `clip`
        (largest global norm of a network's gradient, 0 for none).
      steps: length of the stage.

    Returns:
      An optax transformation whose `update` takes `gradient_norm=`, the global norm of
      the gradient, which the metrics already have; if the gradient is split over
      devices, it is the norm over all of them.

    Raises:
      ValueError: for an unknown optimiser or schedule.
    """
    learning_rate = learning_rate_schedule(config, steps)
    parts = [_clip(config.clip)] if config.clip else []
    decay = {'weight_decay': config.weight_decay, 'mask': _matrices}
    if config.name == 'sgd':
        parts.append(optax.add_decayed_weights(**decay))
        parts.append(optax.sgd(learning_rate, momentum=config.momentum or None))
    elif config.name == 'adam':
        parts.append(optax.adamw(learning_rate, **decay))
    else:
        raise ValueError(
            f'optimizer.name is {config.name!r}; '
            f'expected one of {", ".join(OPTIMIZERS)}.'
        )
    return optax.with_extra_args_support(optax.chain(*parts))


def _clip(limit):
    """`optax.clip_by_global_norm` with a given norm, in one product."""

    def update(updates, state, params=None, *, gradient_norm, **_):
        scale = jnp.minimum(1.0, limit / gradient_norm)
        return jax.tree.map(lambda leaf: leaf * scale, updates), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def _matrices(params):
    return jax.tree.map(lambda value: value.ndim > 1, params)
