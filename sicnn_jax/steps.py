"""Update functions: (method, state, batch) → (state, metrics), pure.

Each is written for the batch of one device under a named axis 'batch', over which
gradients and metrics are averaged; `parallel.py` maps it over the devices. The two
updates of the paper are `update_cnnr` and `update_cnnh`; Algorithm 1 and the
approaches of Sec. 3.5 are compositions of them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from sicnn_jax import images, losses
from sicnn_jax.optimizers import global_norm
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
      cnnh: hallucination network.
      optimizers: optimiser of each network that the stage may update.
      recognition_loss: (features, class_weights, labels, annealing=λ) → scalar.
      annealing: step → λ of A-Softmax.
      scale: upscaling factor.
      degradation: how LR is made from HR, see `images.degrade`.
      alpha: α, weight of the super-identity loss.
      beta: β, weight of the recognition loss in `update_joint` (Eq. 4).
      loss_scale: factor of the whole objective of CNNH. It changes nothing but
        what a clipped or Adam step sees of the gradient; plain SGD on a sum over
        pixels needs it (docs/decisions.md).
      split_identities: each device holds the class weights of some identities, as
        `parallel.split` lays them out, not of all.
      sampled_identities: the recognition loss is over so many identities, drawn anew
        in each step, of those that a device holds; 0 for all.
    """

    cnnr: nn.Module
    cnnh: nn.Module
    optimizers: Mapping[str, optax.GradientTransformation]
    recognition_loss: Callable[..., jax.Array]
    annealing: Callable[[jax.Array], jax.Array]
    scale: int = 8
    degradation: str = 'bicubic'
    alpha: float = 8.0
    beta: float = 1.0
    loss_scale: float = 1.0
    split_identities: bool = False
    sampled_identities: int = 0


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
    constant = jax.lax.stop_gradient(faces)

    def objective(params):
        return _recognition(method, params, constant, labels, state.step)

    return _descend(method, state, ('cnnr', 'class_weights'), objective)


def update_cnnh(
    method: Method, state: TrainState, lr: jax.Array, hr: jax.Array
) -> tuple[TrainState, Metrics]:
    """One step of CNNH by L_SR + α L_SI (Eq. 5; Algorithm 1, line 5).

    The gradient flows through CNNR to the super-resolved faces, but CNNR's own
    parameters get none. With α = 0 CNNR is not evaluated, nor needed in the state.

    Args:
      method: the networks, α, the loss scale and the optimisers.
      state: with networks 'cnnh' and, if α is not 0, 'cnnr'.
      lr: float32 [n, 112 / scale, 96 / scale, 3].
      hr: float32 [n, 112, 96, 3].

    Returns:
      The state with CNNH updated (`step` unchanged), and metrics.
    """

    def objective(params):
        sr = method.cnnh.apply({'params': params['cnnh']}, lr)
        frozen = jax.lax.stop_gradient(state.networks.get('cnnr', Network(None)).params)
        return _hallucination(method, frozen, sr, hr)

    return _descend(method, state, ('cnnh',), objective)


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

    def objective(params):
        sr = method.cnnh.apply({'params': params['cnnh']}, lr)
        hallucination_loss, metrics = _hallucination(
            method, params['cnnr'], sr, hr, stop_hr=False
        )
        recognition_loss, recognition_metrics = _recognition(
            method,
            params,
            jnp.concatenate([sr, hr]),
            jnp.concatenate([labels, labels]),
            state.step,
        )
        loss = hallucination_loss + method.loss_scale * method.beta * recognition_loss
        return loss, metrics | recognition_metrics

    return _descend(method, state, ('cnnr', 'class_weights', 'cnnh'), objective)


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
    (approaches II and III).
    """
    lr, hr = _pairs(method, batch)
    return _next(update_cnnh(method, state, lr, hr))


def domain_integrated(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """An iteration of Algorithm 1: CNNR on SR and HR, then CNNH through the new CNNR.

    Both updates in one program: CNNH is the same in both, so XLA computes its forward
    pass once, and the second takes its residuals.
    """
    state, cnnr_metrics = mixed_half(method, state, batch)
    state, cnnh_metrics = hallucination(method, state, batch)
    return state, merge_metrics(cnnr_metrics, cnnh_metrics)


def mixed_half(
    method: Method, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """The first half of an iteration of Algorithm 1, `hallucination` is the second."""
    lr, hr = _pairs(method, batch)
    sr = method.cnnh.apply({'params': state.networks['cnnh'].params}, lr)
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


@dataclasses.dataclass(frozen=True)
class Update:
    """An iteration and the networks that it updates and that it only reads.

    The programs are each mapped and dispatched by themselves, one after the other.
    """

    programs: tuple[
        Callable[[Method, TrainState, Batch], tuple[TrainState, Metrics]], ...
    ]
    trained: tuple[str, ...]
    frozen: tuple[str, ...] = ()


def find_update(name: str, alpha: float, *, fused: bool = True) -> Update:
    """The update that a stage's config names.

    Args:
      name: 'recognition', 'mixed_recognition', 'hallucination',
        'domain_integrated' or 'joint'.
      alpha: α of the stage; 'hallucination' reads CNNR unless it is 0.
      fused: the two updates of 'domain_integrated' are one program, not two; to
        rounding, the result is the same.

    Raises:
      ValueError: for another name.
    """
    recognisers = ('cnnr', 'class_weights')
    all_three = (*recognisers, 'cnnh')
    one_or_two = (domain_integrated,) if fused else (mixed_half, hallucination)
    updates = {
        'recognition': Update((recognition,), recognisers),
        'mixed_recognition': Update((mixed_recognition,), recognisers, ('cnnh',)),
        'hallucination': Update(
            (hallucination,), ('cnnh',), ('cnnr',) if alpha else ()
        ),
        'domain_integrated': Update(one_or_two, all_three),
        'joint': Update((joint,), all_three),
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


def _recognition(method, params, faces, labels, step):
    features = method.cnnr.apply({'params': params['cnnr']}, faces)
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


def _hallucination(method, cnnr_params, sr, hr, *, stop_hr=True):
    loss = super_resolution = losses.super_resolution_loss(sr, hr)
    metrics = {'super_resolution_loss': super_resolution}
    if method.alpha:

        def features(faces):
            return method.cnnr.apply({'params': cnnr_params}, faces)

        hr_features = features(hr)
        if stop_hr:
            hr_features = jax.lax.stop_gradient(hr_features)
        super_identity = losses.super_identity_loss(features(sr), hr_features)
        loss = loss + method.alpha * super_identity
        metrics['super_identity_loss'] = super_identity
    return method.loss_scale * loss, metrics


def _descend(
    method: Method,
    state: TrainState,
    names: tuple[str, ...],
    objective: Callable[[dict[str, Any]], tuple[jax.Array, Metrics]],
) -> tuple[TrainState, Metrics]:
    """Updates the named networks against the objective, unless it is not finite."""
    params = {name: state.networks[name].params for name in names}
    (loss, metrics), gradients = jax.value_and_grad(objective, has_aux=True)(params)
    # The gradient of the local loss, averaged: differentiating an averaged loss
    # would count every device twice.
    loss, metrics = jax.lax.pmean((loss, metrics), AXIS)
    reduced = {
        name: _reduce(gradient, method.split_identities and name == 'class_weights')
        for name, gradient in gradients.items()
    }
    norms = {name: norm for name, (_, norm) in reduced.items()}
    finite = jnp.isfinite(loss) & jnp.all(jnp.isfinite(jnp.stack([*norms.values()])))
    networks = dict(state.networks)
    for name in names:
        old = networks[name]
        gradient, _ = reduced[name]
        updates, opt_state = method.optimizers[name].update(
            gradient, old.opt_state, old.params
        )
        new = Network(optax.apply_updates(old.params, updates), opt_state)
        networks[name] = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), new, old
        )
    metrics |= {f'{name}_gradient_norm': norm for name, norm in norms.items()}
    metrics['finite'] = finite.astype(jnp.float32)
    return state.replace(networks=networks), metrics


def _reduce(gradient: Any, split: bool) -> tuple[Any, jax.Array]:
    """The gradient of the objective of all devices, and its norm."""
    if not split:
        gradient = jax.lax.pmean(gradient, AXIS)
        return gradient, optax.global_norm(gradient)
    # Of this device's identities alone, counted once by every device.
    gradient = jax.tree.map(lambda leaf: leaf / jax.lax.psum(1, AXIS), gradient)
    return gradient, global_norm(gradient, AXIS)


def _next(
    state_and_metrics: tuple[TrainState, Metrics],
) -> tuple[TrainState, Metrics]:
    state, metrics = state_and_metrics
    return state.replace(step=state.step + 1), metrics
