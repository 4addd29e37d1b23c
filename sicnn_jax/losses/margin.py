"""Recognition losses with an angular margin: A-Softmax (Eq. 2), CosFace, ArcFace.

Each compares features with one weight vector per identity by the cosine of the angle
between them, and demands more of the true identity's angle than of the others.

With very many identities, the weight vectors can be split over devices. Under a mapped
axis, given as `axis_name`, `features` and `labels` are this device's faces, and
`class_weights` has its num_identities / devices columns, in order; labels still number
all identities. A column of zeros is not an identity, so any number of identities can be
split. The loss is then the mean over the faces of all devices, the same on each. As
always under a mapped axis, gradients are of the sum of all devices' losses: average
the gradient of a network's parameters over the devices, as usual, but divide the
gradient of `class_weights` by the number of devices, and never average it. Where JAX
tracks which values are the same on each device (see `sicnn_jax.axes`), gradients are of
the one loss and need no division.
"""

import functools
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from sicnn_jax.losses.identity import inverse_norm, normalize

# Below this sin² θ, float32 cosines no longer resolve θ (they are 6e-8 apart near 1).
_SMALLEST_SQUARED_SINE = 1e-7


def cosine_logits(
    features: Float[ArrayLike, 'n feature_dim'],
    class_weights: Float[ArrayLike, 'feature_dim num_identities'],
) -> Float32[Array, 'n num_identities']:
    """Cosine between each feature and each identity's weight vector.

    The losses and `margin_diagnostics` all begin with it; if they have the same
    arguments inside one `jit`, XLA merges the copies into one matrix product.

    Args:
      features: need not be normalised.
      class_weights: need not be normalised.

    Returns:
      In [−1, 1] up to rounding; 0 for zero features and zero weight vectors. Neither
      labels nor a margin are involved.

    Raises:
      AssertionError: the arguments are not of rank 2, or differ in feature_dim.
    """
    features, class_weights = jnp.asarray(features), jnp.asarray(class_weights)
    chex.assert_rank([features, class_weights], 2)
    if features.shape[1] != class_weights.shape[0]:
        raise AssertionError(
            f'features are {list(features.shape)} and class_weights '
            f'{list(class_weights.shape)}; expected [n, feature_dim] and [feature_dim, '
            'num_identities]. PyTorch has them the other way round: transpose them.'
        )
    class_weights = class_weights.astype(jnp.float32)
    # The product is divided by the norms, not the class weights: writing very many
    # normalised weights, or their gradient, would take longer than the product.
    norms = inverse_norm(_sum_of_squares(class_weights))
    return _product(normalize(features), class_weights) * norms


def a_softmax_loss(
    features: Float[ArrayLike, 'n feature_dim'],
    class_weights: Float[ArrayLike, 'feature_dim num_identities'],
    labels: Int[ArrayLike, ' n'],
    *,
    margin: int = 4,
    annealing: Float[Array, ''] | float = 0.0,
    axis_name: str | None = None,
    elementwise: bool = False,
) -> Float32[Array, '*n']:
    """Angular softmax loss, Eq. 2 of the paper (SphereFace, Liu et al., CVPR 2017).

    Softmax cross entropy of the logits ‖x‖ cos θ_j (unit-norm weights, no bias), except
    for the true identity, whose logit is ‖x‖ (λ cos θ + ψ(θ)) / (1 + λ), with
    ψ(θ) = (−1)^k cos(mθ) − 2k for θ in [kπ/m, (k+1)π/m]: 1 at 0, falling to
    1 − 2m at π, with a continuous derivative.

    Args:
      features: not normalised.
      class_weights: normalised here.
      labels: in [0, num_identities).
      margin: m, the factor of the true identity's angle; 1 is softmax with normalised
        weights.
      annealing: λ ≥ 0, a number or a scalar array (see `annealing_schedule`); 0 is
        the loss as published, ∞ the same as margin 1.
      axis_name: see the top of this file.
      elementwise: return one value per face, [n], instead of their mean; under
        `axis_name` the values of all devices, in order.

    Returns:
      The mean over the batch; NaN if a label is out of range.
      Computed in float32 whatever the inputs are. Algorithm 1 divides by N *pairs*;
      this loss is the mean over their 2N faces, and so half of the paper's.

    Raises:
      ValueError: the margin is not an int of at least 1, or λ is a negative number.
      AssertionError: shapes do not fit, or labels are not integers.
    """
    if isinstance(margin, np.integer):
        margin = int(margin)
    if isinstance(margin, bool) or not isinstance(margin, int) or margin < 1:
        raise ValueError(
            f'The margin of A-Softmax multiplies the angle and is an int of at '
            f'least 1 (the paper has 4), not {margin!r}.'
        )
    if not isinstance(annealing, jax.Array) and annealing < 0:
        raise ValueError(f'annealing is {annealing!r}; λ is at least 0.')

    def with_margin(cosine):
        # As a difference, so that λ may be infinite.
        return cosine + (_psi(cosine, margin) - cosine) / (1.0 + jnp.float32(annealing))

    return _margin_loss(
        features, class_weights, labels, with_margin, None, axis_name, elementwise
    )


def cosface_loss(
    features: Float[ArrayLike, 'n feature_dim'],
    class_weights: Float[ArrayLike, 'feature_dim num_identities'],
    labels: Int[ArrayLike, ' n'],
    *,
    scale: float = 64.0,
    margin: float = 0.35,
    axis_name: str | None = None,
    elementwise: bool = False,
) -> Float32[Array, '*n']:
    """Large margin cosine loss (CosFace, Wang et al., CVPR 2018).

    Softmax cross entropy of the logits s cos θ_j, except for the true identity, whose
    logit is s (cos θ − m).

    Args:
      features: normalised here.
      class_weights, labels, axis_name, elementwise: as in `a_softmax_loss`.
      scale: s, the feature norm that replaces the features' own.
      margin: m, subtracted from the true identity's cosine.

    Returns:
      As `a_softmax_loss`.

    Raises:
      AssertionError: as `a_softmax_loss`.
    """

    def with_margin(cosine):
        return cosine - jnp.float32(margin)

    return _margin_loss(
        features, class_weights, labels, with_margin, scale, axis_name, elementwise
    )


def arcface_loss(
    features: Float[ArrayLike, 'n feature_dim'],
    class_weights: Float[ArrayLike, 'feature_dim num_identities'],
    labels: Int[ArrayLike, ' n'],
    *,
    scale: float = 64.0,
    margin: float = 0.5,
    axis_name: str | None = None,
    elementwise: bool = False,
) -> Float32[Array, '*n']:
    """Additive angular margin loss (ArcFace, Deng et al., CVPR 2019).

    Softmax cross entropy of the logits s cos θ_j, except for the true identity, whose
    logit is s cos(θ + m). Where θ + m > π, this logit would rise again and pull the
    feature the wrong way; there it is s (cos θ − m sin m), as in the authors' code. So
    it falls all the way to θ = π, with a small step at π − m.

    Args:
      features: normalised here.
      class_weights, labels, axis_name, elementwise: as in `a_softmax_loss`.
      scale: s, the feature norm that replaces the features' own.
      margin: m, radians in [0, π/2], added to the true identity's angle.

    Returns:
      As `a_softmax_loss`. At θ = 0 the loss has a kink; its gradient there is 0,
      the gradient of s (cos θ cos m).

    Raises:
      ValueError: the margin is not in [0, π/2].
      AssertionError: as `a_softmax_loss`.
    """
    if not 0.0 <= margin <= math.pi / 2:
        raise ValueError(
            f'The margin of ArcFace is an angle in [0, π/2] radians (its paper has '
            f'0.5), not {margin!r}.'
        )

    def with_margin(cosine):
        sine = _sine(cosine)
        return jnp.where(
            cosine > -math.cos(margin),
            cosine * math.cos(margin) - sine * math.sin(margin),
            cosine - margin * math.sin(margin),
        )

    return _margin_loss(
        features, class_weights, labels, with_margin, scale, axis_name, elementwise
    )


def annealing_schedule(
    *,
    base: float = 1000.0,
    gamma: float = 0.12,
    power: float = 1.0,
    minimum: float = 5.0,
    offset: int = 0,
) -> Callable[[Int[Array, ''] | int], Float32[Array, '']]:
    """The λ of `a_softmax_loss` as a function of the step.

    λ = max(minimum, base / (1 + gamma (step + offset)) ** power). The loss begins as
    nearly plain softmax, which lets A-Softmax converge. The defaults are from
    SphereFace's Caffe definition. The function does not count: give it the step of the
    checkpointed state, or training resumes with an easier loss.

    Args:
      base: λ at step + offset = 0.
      gamma: rate of the decay per step.
      power: its exponent.
      minimum: the λ it stays at.
      offset: steps already trained, added to the step (for fine-tuning).

    Returns:
      A function from the step (an array may be traced) to λ.

    Raises:
      ValueError: a setting is negative.
    """
    settings = dict(base=base, gamma=gamma, power=power, minimum=minimum, offset=offset)
    for name, value in settings.items():
        if value < 0:
            raise ValueError(
                f'annealing_schedule: {name} is {value!r}, but must not be negative.'
            )

    def annealing(step: Int[Array, ''] | int) -> Float32[Array, '']:
        steps = jnp.asarray(step, jnp.float32) + offset
        return jnp.maximum(base / (1.0 + gamma * steps) ** power, minimum)

    return annealing


def sample_identities(
    key: PRNGKeyArray,
    class_weights: Float[ArrayLike, 'feature_dim num_identities'],
    labels: Int[ArrayLike, ' n'],
    count: int,
    *,
    axis_name: str | None = None,
) -> tuple[Float[Array, 'feature_dim count'], Int[Array, ' n']]:
    """Draws the identities of a step: those of the labels, and others at random.

    This is for very many identities: a margin loss of the result costs as much as one
    of `count` identities, and only their class weights get a gradient (Partial FC, An
    et al., CVPR 2022). That loss is smaller than the loss over all identities, and its
    accuracy is higher.

    Args:
      key: of the draw; where the axis is mapped, a different one on each device.
      class_weights: of all identities; where the axis is mapped, of this device's.
      labels: in [0, num_identities).
      count: identities to draw; where the axis is mapped, on each device.
      axis_name: see the top of this file.

    Returns:
      The drawn class weights, and the labels renumbered among them: arguments of the
      losses above, with the same `axis_name`. A label out of range stays out of range.

    Raises:
      ValueError: count is smaller than the number of labels (of all devices, where
        the axis is mapped), or larger than the number of identities.
    """
    faces = jnp.shape(labels)[0]
    _, labels, class_weights = _gather(labels, labels, class_weights, axis_name)
    num_identities = class_weights.shape[1]
    if not len(labels) <= count <= num_identities:
        raise ValueError(
            f'The number of sampled identities is {count}; expected at least '
            f'{len(labels)}, the labels of a batch, and at most {num_identities}, the '
            'identities (on this device).'
        )
    mine = (labels >= 0) & (labels < num_identities)
    rank = jax.random.uniform(key, (num_identities,))
    # An index beyond the last is dropped.
    rank = rank.at[jnp.where(mine, labels, num_identities)].set(2.0, mode='drop')
    chosen = jax.lax.top_k(rank, count)[1]
    place = jnp.zeros(num_identities, labels.dtype)
    place = place.at[chosen].set(jnp.arange(count, dtype=labels.dtype))
    drawn = jnp.where(mine, place[labels], -1)
    if axis_name is not None:
        device = jax.lax.axis_index(axis_name)
        # One device knows each label; the others say −1.
        drawn = jax.lax.pmax(jnp.where(mine, drawn + device * count, -1), axis_name)
        drawn = jax.lax.dynamic_slice_in_dim(drawn, device * faces, faces)
    return class_weights[:, chosen], drawn


def margin_diagnostics(
    features: Float[ArrayLike, 'n feature_dim'],
    class_weights: Float[ArrayLike, 'feature_dim num_identities'],
    labels: Int[ArrayLike, ' n'],
    *,
    axis_name: str | None = None,
) -> dict[str, Float32[Array, '']]:
    """Metrics to log next to a margin loss, to see whether it trains at all.

    The value of A-Softmax does not show it: λ falls, so the loss may rise while the
    network learns, and a network stuck at a plateau (one direction for every face) has
    the same slowly moving loss as a healthy one. These metrics do show it: at a
    plateau the accuracy stays at 1 / num_identities and the target cosine near 0, and a
    feature norm that shrinks to 0 or grows without bound shows why. They cost next to
    nothing in a training step: see `cosine_logits`.

    Args:
      features: not normalised.
      class_weights: normalised here.
      labels: in [0, num_identities).
      axis_name: see the top of this file.

    Returns:
      Means over the batch: 'feature_norm', 'target_cosine' (of the angle to the true
      identity's weights), 'recognition_accuracy' (how often that cosine is the
      largest, without a margin; in [0, 1]).

    Raises:
      AssertionError: shapes do not fit, or labels are not integers.
    """
    norm = jnp.mean(_norms(features))
    if axis_name is not None:
        norm = jax.lax.pmean(norm, axis_name)
    _, _, labels, cosines, target = _compare(features, class_weights, labels, axis_name)
    target = _from_owner(target, labels, cosines.shape[1], axis_name)
    # The first of equal cosines counts, so that zero features are not all correct.
    largest = jnp.max(cosines, axis=1)
    correct = jnp.argmax(cosines, axis=1) == labels
    correct &= largest >= _max_over(largest, axis_name)
    correct = _sum_over(correct.astype(jnp.float32), axis_name)
    return {
        'feature_norm': norm,
        'target_cosine': jnp.mean(target),
        'recognition_accuracy': jnp.mean(correct),
    }


def recognition_loss(
    name: str, **settings: float
) -> Callable[..., Float32[Array, '*n']]:
    """The margin loss that a config names; all have one signature.

    Args:
      name: 'a_softmax', 'cosface' or 'arcface'.
      **settings: margin for all three, scale for the last two; the defaults are those
        of `a_softmax_loss`, `cosface_loss` or `arcface_loss`.

    Returns:
      loss(features, class_weights, labels, *, annealing=0.0, axis_name=None,
      elementwise=False). CosFace and ArcFace have no annealing and ignore it.

    Raises:
      ValueError: there is no such loss, or it has no such setting.
    """
    if name not in _LOSSES:
        raise ValueError(
            f'There is no recognition loss {name!r}; choose from {", ".join(_LOSSES)}.'
        )
    function, known = _LOSSES[name]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(
            f'The recognition loss {name!r} has no setting {", ".join(unknown)}, '
            f'only {", ".join(known)}.'
        )

    def loss(features, class_weights, labels, *, annealing=0.0, **options):
        if name == 'a_softmax':
            options['annealing'] = annealing
        return function(features, class_weights, labels, **settings, **options)

    return loss


# The loss of each name, and its settings.
_LOSSES: dict[str, tuple[Callable[..., Float32[Array, '*n']], tuple[str, ...]]] = {
    'a_softmax': (a_softmax_loss, ('margin',)),
    'cosface': (cosface_loss, ('scale', 'margin')),
    'arcface': (arcface_loss, ('scale', 'margin')),
}


def _product(
    a: Float32[Array, 'n k'], b: Float32[Array, 'k m']
) -> Float32[Array, 'n m']:
    """A matrix product in full precision.

    By default, accelerators round the factors of a float32 product to 8 to 11 bits,
    which a scale of 64 turns into errors of 0.1 in a logit. Even in full precision, the
    product costs little compared with the network in front of it.
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _sum_of_squares(x: Float32[Array, 'n m']) -> Float32[Array, '1 m']:
    """Sum of squares over the first axis; XLA's own sum uses a single CPU core.

    Parts are added up in one pass, and their rows by a matrix product.
    """
    parts = jnp.split(x, math.gcd(len(x), 8))
    squares = functools.reduce(jnp.add, map(jnp.square, parts))
    return _product(jnp.ones((1, len(squares)), squares.dtype), squares)


def _psi(cosine: Float32[Array, '*shape'], margin: int) -> Float32[Array, '*shape']:
    """ψ(θ) of Eq. 2 from cos θ, elementwise.

    cos(mθ) is the Chebyshev polynomial T_m of cos θ, and k counts the interval
    bounds that cos θ has passed. So θ itself, whose derivative is infinite at 0 and
    π, is never computed. At a bound, both neighbouring pieces agree in value and
    slope, so it does not matter to which of them rounding assigns it.
    """
    previous, multiple = jnp.ones_like(cosine), cosine
    for _ in range(margin - 1):
        previous, multiple = multiple, 2.0 * cosine * multiple - previous
    k = jnp.zeros_like(cosine)
    sign = jnp.ones_like(cosine)
    for bound in range(1, margin):
        passed = cosine < math.cos(bound * math.pi / margin)
        k += passed.astype(k.dtype)
        sign = jnp.where(passed, -sign, sign)
    return sign * multiple - 2.0 * k


def _sine(cosine: Float32[Array, '*shape']) -> Float32[Array, '*shape']:
    """sin θ from cos θ. Its derivative, infinite at ±1, is set to 0 near there.

    Rounding may carry the cosine beyond ±1.
    """
    squared = (1.0 - cosine) * (1.0 + cosine)
    steep = squared < _SMALLEST_SQUARED_SINE
    constant = jax.lax.stop_gradient(jnp.sqrt(jnp.maximum(squared, 0.0)))
    return jnp.where(steep, constant, jnp.sqrt(jnp.where(steep, 1.0, squared)))


def _norms(features: Float[ArrayLike, 'n feature_dim']) -> Float32[Array, ' n']:
    """L2 norms; zero gradient where the feature is zero."""
    return jnp.sum(jnp.asarray(features, jnp.float32) * normalize(features), axis=-1)


def _compare(features, class_weights, labels, axis_name):
    """The gathered arguments, all cosines, and those at the labels.

    The last are 0 where the label is not among this device's identities.
    """
    features, labels, class_weights = _gather(
        features, labels, class_weights, axis_name
    )
    cosines = cosine_logits(features, class_weights)
    chex.assert_shape(labels, (cosines.shape[0],))
    chex.assert_type(labels, int)
    # The gradient of a gather would be a scatter; a mask has none.
    mask = jax.nn.one_hot(labels, cosines.shape[1], dtype=bool)
    target = jnp.sum(jnp.where(mask, cosines, 0.0), axis=1)
    return features, class_weights, labels, cosines, target


def _margin_loss(
    features: ArrayLike,
    class_weights: ArrayLike,
    labels: ArrayLike,
    with_margin: Callable[[Float32[Array, ' n']], Float32[Array, ' n']],
    scale: float | None,
    axis_name: str | None,
    elementwise: bool,
) -> Float32[Array, '*n']:
    """Softmax cross entropy of cosines, `with_margin` applied to those at the labels.

    All are multiplied by `scale`, or by the features' norms if it is None.
    """
    features, class_weights, labels, cosines, target = _compare(
        features, class_weights, labels, axis_name
    )
    target = with_margin(target)
    if scale is None:
        norms = _norms(features)
        logits, target = norms[:, None] * cosines, norms * target
    else:
        logits, target = jnp.float32(scale) * cosines, jnp.float32(scale) * target
    if axis_name is not None:
        logits = jnp.where(jnp.any(class_weights != 0, axis=0), logits, -jnp.inf)
    mask = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    logits = jnp.where(mask, target[:, None], logits)
    largest = _max_over(jnp.max(logits, axis=1), axis_name)
    total = _sum_over(jnp.sum(jnp.exp(logits - largest[:, None]), axis=1), axis_name)
    target = _from_owner(target, labels, logits.shape[1], axis_name)
    values = jnp.log(total) + largest - target
    return values if elementwise else jnp.mean(values)


def _from_owner(own, labels, num_identities, axis_name):
    """Values [n] of the devices that hold the labels; NaN where no device does."""
    mine = (labels >= 0) & (labels < num_identities)
    known = _max_over(mine.astype(jnp.float32), axis_name)
    value = _sum_over(jnp.where(mine, own, 0.0), axis_name)
    return jnp.where(known > 0, value, jnp.nan)


def _gather(
    features: ArrayLike, labels: ArrayLike, weights: ArrayLike, axis_name: str | None
) -> tuple[Array, Array, Array]:
    """Of all devices the features and labels, and this device's weights, as JAX arrays.

    The labels count from this device's first identity.
    """
    faces = jnp.asarray(features), jnp.asarray(labels)
    weights = jnp.asarray(weights)
    if axis_name is None:
        return *faces, weights
    first = jax.lax.axis_index(axis_name) * weights.shape[1]
    all_features, all_labels = jax.lax.all_gather(faces, axis_name, tiled=True)
    return all_features, all_labels - first, weights


def _sum_over(x, axis_name):
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def _max_over(x, axis_name):
    x = jax.lax.stop_gradient(x)
    return x if axis_name is None else jax.lax.pmax(x, axis_name)
