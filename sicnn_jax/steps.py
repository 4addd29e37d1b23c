"""Update functions: (method, state, batch) → (state, metrics), pure.

Each is written for the batch of one device under a named axis 'batch', over which
gradients and metrics are averaged; `parallel.py` maps it over the devices. The two
updates of the paper are `update_cnnr` and `update_cnnh`; Algorithm 1, the approaches of
Sec. 3.5 and most of the methods that the paper compares are compositions of them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from sicnn_jax import images, losses
from sicnn_jax.models import CNNR, Discriminator, block_activations
from sicnn_jax.train_state import Network, TrainState

AXIS = 'batch'

Metrics = dict[str, jax.Array]
# {'hr': uint8 [n, 112, 96, 3], 'label': int32 [n]}
Batch = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Method:
    """What stays fixed while a stage trains.

    Attributes:
      cnnr: recognition network.
      cnnh: hallucination network, the paper's or a compared method's.
      optimizers: optimiser of each network that the stage may update.
      recognition_loss: (features, class_weights, labels, annealing=λ) → scalar.
      annealing: step → λ of A-Softmax.
      scale: upscaling factor.
      degradation: how LR is made from HR, see `images.degrade`.
      alpha: α, weight of the super-identity loss.
      identity_loss: of `losses.identity_loss`, what α weighs.
      beta: β, weight of the recognition loss in `update_joint` (Eq. 4).
      loss_scale: factor of the whole objective of CNNH. It changes nothing but
        what a clipped or Adam step sees of the gradient; plain SGD on a sum over
        pixels needs it (docs/decisions.md).
      split_identities: each device holds the class weights of some identities, as
        `parallel.split` lays them out, not of all.
      sampled_identities: the recognition loss is over so many identities, drawn anew
        in each step, of those that a device holds; 0 for all.
      discriminator: of originals and super-resolved faces, where there is one.
      adversarial_weight: of the adversarial loss in the objective of CNNH, relative
        to the sum over pixels that L_SR is, as α; 0: no discriminator is needed.
      perceptual_weight: of the perceptual loss through CNNR, likewise.
      microbatches: the batch of a device is taken in so many parts, one after the
        other, and their gradients are averaged before the step is made. Sampled
        identities are drawn for each part.
    """

    cnnr: CNNR
    cnnh: nn.Module
    optimizers: Mapping[str, optax.GradientTransformation]
    recognition_loss: Callable[..., jax.Array]
    annealing: Callable[[jax.Array], jax.Array]
    scale: int = 8
    degradation: str = 'bicubic'
    alpha: float = 8.0
    identity_loss: str = 'super_identity'
    beta: float = 1.0
    loss_scale: float = 1.0
    split_identities: bool = False
    sampled_identities: int = 0
    discriminator: Discriminator | None = None
    adversarial_weight: float = 0.0
    perceptual_weight: float = 0.0
    microbatches: int = 1


def update_cnnr(
    method: Method, state: TrainState, faces: jax.Array, labels: jax.Array
) -> tuple[TrainState, Metrics]:
    """One step of CNNR and its class weights by L_FR (Eq. 2; Algorithm 1, line 4).

    Args:
      method: the networks, the loss, λ and the optimisers.
      state: with networks 'cnnr' and 'class_weights'.
      faces: float32 [n, 112, 96, 3]: HR, or HR and SR mixed. They are constants
        here: no gradient reaches a network that made them.
      labels: int32 [n].

    Returns:
      The state with both networks updated (`step` unchanged), and metrics.
    """
    batch = {'faces': jax.lax.stop_gradient(faces), 'label': labels}

    def objective(params, part):
        return _recognition(method, params, part['faces'], part['label'], state.step)

    return _descend(method, state, ('cnnr', 'class_weights'), objective, batch)


def update_cnnh(
    method: Method, state: TrainState, lr: jax.Array, hr: jax.Array
) -> tuple[TrainState, Metrics]:
    """One step of CNNH by L_SR + α L_SI (Eq. 5; Algorithm 1, line 5).

    Where the method has weights for them, plus the adversarial loss (UR-DGN) and the
    perceptual loss (UR-DGN*, Sec. 4.4). The gradient flows through CNNR and the
    discriminator to the super-resolved faces, but their own parameters get none. A
    network whose losses have no weight is not evaluated, nor needed in the state.

    Args:
      method: the networks, the weights, the loss scale and the optimisers.
      state: with the networks 'cnnh' and, if their losses have weights, 'cnnr' and
        'discriminator'.
      lr: float32 [n, 112 / scale, 96 / scale, 3].
      hr: float32 [n, 112, 96, 3].

    Returns:
      The state with CNNH updated (`step` unchanged), and metrics.
    """
    frozen = jax.lax.stop_gradient(
        {
            name: network.params
            for name, network in state.networks.items()
            if name in ('cnnr', 'discriminator')
        }
    )

    def objective(params, part):
        sr = _apply(method.cnnh, params['cnnh'], part['lr'])
        loss, metrics = _hallucination(method, frozen.get('cnnr'), sr, part['hr'])
        realism, more = _realism(method, frozen, sr, part['hr'])
        return loss + method.loss_scale * realism, metrics | more

    return _descend(method, state, ('cnnh',), objective, {'lr': lr, 'hr': hr})


def update_pyramid(
    method: Method, state: TrainState, lr: jax.Array, pyramid: tuple[jax.Array, ...]
) -> tuple[TrainState, Metrics]:
    """One step of a network with a pyramid by its Charbonnier losses (LapSRN, Eq. 2).

    Args:
      method: the networks, the loss scale and the optimisers.
      state: with network 'cnnh'.
      lr: float32 [n, 112 / scale, 96 / scale, 3].
      pyramid: float32 originals in the sizes of the network's levels, 112×96 last.

    Returns:
      The state with CNNH updated (`step` unchanged), and metrics.
    """

    def objective(params, part):
        levels = _apply(method.cnnh, params['cnnh'], part['lr'], method='pyramid')
        loss = sum(
            losses.charbonnier_loss(level, original)
            for level, original in zip(levels, part['pyramid'], strict=True)
        )
        return method.loss_scale * loss, {'charbonnier_loss': loss}

    batch = {'lr': lr, 'pyramid': pyramid}
    return _descend(method, state, ('cnnh',), objective, batch)


def update_discriminator(
    method: Method, state: TrainState, sr: jax.Array, hr: jax.Array
) -> tuple[TrainState, Metrics]:
    """One step of the discriminator by the cross-entropy of HR and SR faces.

    Args:
      method: the networks and the optimisers.
      state: with network 'discriminator'.
      sr: float32 [n, 112, 96, 3]. They are constants here: no gradient reaches the
        network that made them.
      hr: float32 [n, 112, 96, 3].

    Returns:
      The state with the discriminator updated (`step` unchanged), and metrics.
    """
    batch = jax.lax.stop_gradient({'sr': sr, 'hr': hr})

    def objective(params, part):
        faces = jnp.concatenate([part['hr'], part['sr']])
        logits = _judge(method, params, faces)
        loss = losses.discriminator_loss(*jnp.split(logits, 2))
        return loss, {'discriminator_loss': loss}

    return _descend(method, state, ('discriminator',), objective, batch)


def update_joint(
    method: Method, state: TrainState, lr: jax.Array, hr: jax.Array, labels: jax.Array
) -> tuple[TrainState, Metrics]:
    """One step of both networks by L_SR + α L_SI + β L_FR (Eq. 4, approach I).

    All gradients go everywhere: L_FR reaches CNNH and L_SI reaches CNNR.
    L_FR is the mean over the SR and HR faces.

    Args:
      method: the networks, losses, weights and optimisers.
      state: with networks 'cnnr', 'class_weights' and 'cnnh'.
      lr: float32 [n, 112 / scale, 96 / scale, 3].
      hr: float32 [n, 112, 96, 3].
      labels: int32 [n].

    Returns:
      The state with all networks updated (`step` unchanged), and metrics.
    """

    def objective(params, part):
        sr = _apply(method.cnnh, params['cnnh'], part['lr'])
        hallucination_loss, metrics = _hallucination(
            method, params['cnnr'], sr, part['hr'], stop_hr=False
        )
        recognition_loss, recognition_metrics = _recognition(
            method,
            params,
            jnp.concatenate([sr, part['hr']]),
            jnp.concatenate([part['label'], part['label']]),
            state.step,
        )
        loss = hallucination_loss + method.loss_scale * method.beta * recognition_loss
        return loss, metrics | recognition_metrics

    batch = {'lr': lr, 'hr': hr, 'label': labels}
    return _descend(method, state, ('cnnr', 'class_weights', 'cnnh'), objective, batch)


def recognition(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """An iteration of stage 1: CNNR on HR faces."""
    hr = images.to_float(batch['hr'])
    return _next(update_cnnr(method, state, hr, batch['label']))


def mixed_recognition(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """An iteration of approach III's second step: CNNR on SR and HR, CNNH frozen."""
    return _next(mixed_half(method, state, batch))


def hallucination(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """An iteration of CNNH alone.

    By L_SR where α = 0 (stage 2); else by L_SR + α L_SI against a frozen CNNR
    (approaches II and III). The other weights of the method count as well.
    """
    lr, hr = _pairs(method, batch)
    return _next(update_cnnh(method, state, lr, hr))


def domain_integrated(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """An iteration of Algorithm 1: CNNR on SR and HR, then CNNH through the new CNNR.

    Both updates in one program: CNNH is the same in both, so XLA computes its forward
    pass once, and the second takes its residuals (not with microbatches, which are
    there to keep none).
    """
    state, cnnr_metrics = mixed_half(method, state, batch)
    state, cnnh_metrics = hallucination(method, state, batch)
    return state, merge_metrics(cnnr_metrics, cnnh_metrics)


def mixed_half(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """The first half of an iteration of Algorithm 1, `hallucination` is the second."""
    lr, hr = _pairs(method, batch)
    sr = _super_resolve(method, state, lr)
    labels = batch['label']
    return update_cnnr(
        method, state, jnp.concatenate([sr, hr]), jnp.concatenate([labels, labels])
    )


def merge_metrics(first: Metrics, second: Metrics) -> Metrics:
    """Metrics of two updates in a row: finite if both are."""
    return first | second | {'finite': jnp.minimum(first['finite'], second['finite'])}


def joint(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """An iteration of approach I."""
    lr, hr = _pairs(method, batch)
    return _next(update_joint(method, state, lr, hr, batch['label']))


def pyramid(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """An iteration of LapSRN: its levels against HR, made smaller by bicubic."""
    lr, hr = _pairs(method, batch)
    levels = [
        images.to_float(images.degrade(batch['hr'], scale=factor))
        for factor in (8, 4, 2)
        if factor < method.scale
    ]
    return _next(update_pyramid(method, state, lr, (*levels, hr)))


def adversarial(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """An iteration of UR-DGN: the discriminator, then CNNH through the new one."""
    lr, hr = _pairs(method, batch)
    sr = _super_resolve(method, state, lr)
    state, discriminator_metrics = update_discriminator(method, state, sr, hr)
    state, cnnh_metrics = hallucination(method, state, batch)
    return state, merge_metrics(discriminator_metrics, cnnh_metrics)


def fit(method: Method, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """The one iteration of a network that was fitted when the stage began."""
    return _next((state, {'finite': jnp.ones(())}))


@dataclasses.dataclass(frozen=True)
class Update:
    """An iteration and the networks that it updates and that it only reads.

    The programs are each mapped and dispatched by themselves, one after the other.
    Fitted networks are made from faces when the stage begins, not by its iterations.
    """

    programs: tuple[
        Callable[[Method, TrainState, Batch], tuple[TrainState, Metrics]], ...
    ]
    trained: tuple[str, ...]
    frozen: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()


def find_update(
    name: str, alpha: float, *, perceptual_weight: float = 0.0, fused: bool = True
) -> Update:
    """The update that a stage's config names.

    Args:
      name: 'recognition', 'mixed_recognition', 'hallucination',
        'domain_integrated', 'joint', 'pyramid', 'adversarial' or 'fit'.
      alpha: α of the stage; 'hallucination' and 'adversarial' read CNNR unless it and
        the weight of the perceptual loss are 0.
      perceptual_weight: that weight.
      fused: the two updates of 'domain_integrated' are one program, not two; to
        rounding, the result is the same.

    Raises:
      ValueError: for another name.
    """
    recognisers = ('cnnr', 'class_weights')
    all_three = (*recognisers, 'cnnh')
    read = ('cnnr',) if alpha or perceptual_weight else ()
    one_or_two = (domain_integrated,) if fused else (mixed_half, hallucination)
    updates = {
        'recognition': Update((recognition,), recognisers),
        'mixed_recognition': Update((mixed_recognition,), recognisers, ('cnnh',)),
        'hallucination': Update((hallucination,), ('cnnh',), read),
        'domain_integrated': Update(one_or_two, all_three),
        'joint': Update((joint,), all_three),
        'pyramid': Update((pyramid,), ('cnnh',)),
        'adversarial': Update((adversarial,), ('discriminator', 'cnnh'), read),
        'fit': Update((fit,), (), fitted=('cnnh',)),
    }
    if name not in updates:
        raise ValueError(
            f'update_rule is {name!r}; expected one of {", ".join(updates)}.'
        )
    return updates[name]


def _pairs(method: Method, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """LR and HR as the networks take them."""
    lr = images.degrade(batch['hr'], scale=method.scale, kind=method.degradation)
    return images.to_float(lr), images.to_float(batch['hr'])


def _apply(network: nn.Module, params: Any, faces: jax.Array, **how: Any) -> Any:
    """What a network makes of faces; Flax cannot say that it is no more than that."""
    return network.apply({'params': params}, faces, **how)


def _super_resolve(method: Method, state: TrainState, lr: jax.Array) -> jax.Array:
    """SR faces by the CNNH of the state, in as many parts as the steps take."""
    params = state.networks['cnnh'].params
    if method.microbatches == 1:
        return _apply(method.cnnh, params, lr)
    parts = _parts(lr, method.microbatches)
    _, sr = _one_by_one(
        lambda _, part: (None, _apply(method.cnnh, params, part)), None, parts
    )
    return sr.reshape(len(lr), *sr.shape[2:])


def _parts(batch: Any, count: int) -> Any:
    """[n, ...] → [count, n / count, ...] of every leaf."""
    return jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)


def _one_by_one(function: Callable[[Any, Any], Any], start: Any, parts: Any) -> Any:
    """`jax.lax.scan`; on a CPU no loop, in which XLA's convolutions are slow.

    What the parts need of memory is then not saved.
    """
    return jax.lax.scan(function, start, parts, unroll=jax.default_backend() == 'cpu')


def _judge(method: Method, params: Mapping[str, Any], faces: jax.Array) -> jax.Array:
    """Logits of the discriminator, which every stage has whose rule or weights ask."""
    assert method.discriminator is not None
    return _apply(method.discriminator, params['discriminator'], faces)


def _recognition(
    method: Method,
    params: Mapping[str, Any],
    faces: jax.Array,
    labels: jax.Array,
    step: jax.Array,
) -> tuple[jax.Array, Metrics]:
    features = _apply(method.cnnr, params['cnnr'], faces)
    class_weights = params['class_weights']
    axis = AXIS if method.split_identities else None
    if method.sampled_identities:
        key = jax.random.fold_in(jax.random.key(0), step)
        class_weights, labels = losses.sample_identities(
            jax.random.fold_in(key, jax.lax.axis_index(AXIS)),
            class_weights,
            labels,
            method.sampled_identities,
            axis_name=axis,
        )
    arguments = features, class_weights, labels
    annealing = method.annealing(step)
    loss = method.recognition_loss(*arguments, annealing=annealing, axis_name=axis)
    diagnostics = losses.margin_diagnostics(*arguments, axis_name=axis)
    return loss, {'recognition_loss': loss, 'annealing': annealing, **diagnostics}


def _hallucination(
    method: Method,
    cnnr_params: Any,
    sr: jax.Array,
    hr: jax.Array,
    *,
    stop_hr: bool = True,
) -> tuple[jax.Array, Metrics]:
    loss = super_resolution = losses.super_resolution_loss(sr, hr)
    metrics = {'super_resolution_loss': super_resolution}
    if method.alpha:

        def features(faces):
            return _apply(method.cnnr, cnnr_params, faces)

        hr_features = features(hr)
        if stop_hr:
            hr_features = jax.lax.stop_gradient(hr_features)
        identity_loss = losses.identity_loss(method.identity_loss)
        distance = identity_loss(features(sr), hr_features)
        loss = loss + method.alpha * distance
        metrics[f'{method.identity_loss}_loss'] = distance
    return method.loss_scale * loss, metrics


def _realism(
    method: Method, params: Mapping[str, Any], sr: jax.Array, hr: jax.Array
) -> tuple[jax.Array | float, Metrics]:
    """What UR-DGN and UR-DGN* add to L_SR."""
    loss: jax.Array | float = 0.0
    metrics: Metrics = {}
    if method.adversarial_weight:
        adversarial_loss = losses.generator_loss(_judge(method, params, sr))
        loss += method.adversarial_weight * adversarial_loss
        metrics['adversarial_loss'] = adversarial_loss
    if method.perceptual_weight:

        def activations(faces):
            return block_activations(method.cnnr, params['cnnr'], faces)

        perceptual_loss = losses.perceptual_loss(activations(sr), activations(hr))
        loss += method.perceptual_weight * perceptual_loss
        metrics['perceptual_loss'] = perceptual_loss
    return loss, metrics


def _descend(
    method: Method,
    state: TrainState,
    names: tuple[str, ...],
    objective: Callable[[dict[str, Any], Any], tuple[jax.Array, Metrics]],
    batch: Any,
) -> tuple[TrainState, Metrics]:
    """Updates the named networks against the objective, unless it is not finite.

    The objective is of parameters and a part of the batch, over whose faces it and its
    metrics are means.
    """
    params = {name: state.networks[name].params for name in names}
    differentiated = functools.partial(
        jax.value_and_grad(objective, has_aux=True), params
    )
    (loss, metrics), gradients = _mean_over_parts(
        differentiated, batch, method.microbatches
    )
    # The gradient of the local loss, averaged: differentiating an averaged loss
    # would count every device twice.
    loss, metrics = _mean_over_devices((loss, metrics))
    reduced = {
        name: _reduce(gradient, method.split_identities and name == 'class_weights')
        for name, gradient in gradients.items()
    }
    norms = {name: norm for name, (_, norm) in reduced.items()}
    finite = jnp.isfinite(loss) & jnp.all(jnp.isfinite(jnp.stack([*norms.values()])))

    def stepped(networks):
        return {
            name: _stepped(method.optimizers[name], network, *reduced[name])
            for name, network in networks.items()
        }

    trained = _if(finite, stepped, {name: state.networks[name] for name in names})
    metrics |= {f'{name}_gradient_norm': norm for name, norm in norms.items()}
    metrics['finite'] = finite.astype(jnp.float32)
    networks = {**state.networks, **trained}
    return dataclasses.replace(state, networks=networks), metrics


def _stepped(
    optimizer: optax.GradientTransformation,
    network: Network,
    gradient: Any,
    norm: jax.Array,
) -> Network:
    """A network after a step of its optimiser, which is told the gradient's norm."""
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        gradient, network.opt_state, network.params, gradient_norm=norm
    )
    return Network(optax.apply_updates(network.params, updates), opt_state)


def _if(condition: jax.Array, change: Callable[[Any], Any], tree: Any) -> Any:
    """The tree changed, or as it is.

    On a CPU a branch, in which the result is written over the tree; a choice between
    both takes another copy of it. An accelerator would have to wait for the branch.
    """
    if jax.default_backend() == 'cpu':
        return jax.lax.cond(condition, change, lambda tree: tree, tree)
    return jax.tree.map(
        lambda new, old: jnp.where(condition, new, old), change(tree), tree
    )


def _mean_over_parts(function: Callable[[Any], Any], batch: Any, count: int) -> Any:
    """The mean of what a function makes of each part, holding one part's at a time."""
    if count == 1:
        return function(batch)
    parts = _parts(batch, count)
    one = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], parts))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), one)

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(part)), None

    total, _ = _one_by_one(add, zero, parts)
    return jax.tree.map(lambda leaf: leaf / count, total)


def _reduce(gradient: Any, split: bool) -> tuple[Any, jax.Array]:
    """The gradient of the objective of all devices, and its norm."""
    if not split:
        gradient = _mean_over_devices(gradient)
        return gradient, optax.global_norm(gradient)
    # Of this device's identities alone, counted once by every device.
    gradient = jax.tree.map(lambda leaf: leaf / jax.lax.psum(1, AXIS), gradient)
    squared = jnp.square(optax.global_norm(gradient))
    return gradient, jnp.sqrt(jax.lax.psum(squared, AXIS))


def _mean_over_devices(tree: Any) -> Any:
    """`jax.lax.pmean`; for a device alone XLA would still copy and divide."""
    alone = jax.lax.psum(1, AXIS) == 1
    return tree if alone else jax.lax.pmean(tree, AXIS)


def _next(
    state_and_metrics: tuple[TrainState, Metrics],
) -> tuple[TrainState, Metrics]:
    state, metrics = state_and_metrics
    return dataclasses.replace(state, step=state.step + 1), metrics
