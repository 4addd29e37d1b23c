"""The paper: Algorithm 1, the stages before it, and approaches I to III of Sec. 3.5.

An iteration is a pure function (recipe, state, batch) → (state, metrics) for the batch
of one device under the named axis `descent.AXIS`. Iterations are made of updates;
neither counts the step (`descent.counted` does).
"""

import jax
import jax.numpy as jnp
from jax import Array

from sicnn_jax import images, losses, terms
from sicnn_jax.descent import AXIS, Updated, descend, in_parts
from sicnn_jax.recipe import Batch, Recipe, apply, both, pairs
from sicnn_jax.train_state import TrainState

__all__ = [
    'distillation',
    'domain_integrated',
    'hallucination',
    'joint',
    'mixed_distillation',
    'mixed_recognition',
    'recognition',
    'super_resolve',
    'taught_integrated',
    'update_by_teacher',
    'update_cnnh',
    'update_cnnr',
    'update_joint',
]


def domain_integrated(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """One iteration of Algorithm 1, as one program.

    CNNH is the same in lines 3 and 5, so XLA computes its forward pass once (except
    with microbatches, whose purpose is to keep no residuals). As two programs, the
    iteration is `mixed_recognition` and then `hallucination`.
    """
    lr, hr, labels = pairs(recipe, batch)  # line 2
    sr = super_resolve(recipe, state, lr)  # line 3: constant from here on
    faces, labels = both(sr, hr), both(labels, labels)
    state, recognised = update_cnnr(recipe, state, faces, labels)  # line 4
    state, hallucinated = update_cnnh(recipe, state, lr, hr)  # line 5, new CNNR
    return state, recognised | hallucinated


def update_cnnr(
    recipe: Recipe,
    state: TrainState,
    faces: Array,
    labels: Array,
    face_weights: Array | None = None,
) -> Updated:
    """Line 4 of Algorithm 1: one step of CNNR and its class weights by L_FR (Eq. 2).

    Args:
      recipe: provides CNNR, L_FR, λ and the optimisers.
      state: with networks 'cnnr' and 'class_weights'.
      faces: float32 [n, 112, 96, 3]: HR, or SR and HR mixed. No gradient reaches the
        network that made them.
      labels: int32 [n].
      face_weights: float32 [n], factors of each face's loss; the paper's are 1.

    Returns:
      The state with both networks updated (`step` unchanged), and metrics.
    """
    batch = {'faces': jax.lax.stop_gradient(faces), 'label': labels}
    if face_weights is not None:
        batch['weight'] = face_weights

    def l_fr(params, part):
        return _recognition_loss(recipe, params, state.step, **part)

    return descend(recipe, state, ('cnnr', 'class_weights'), l_fr, batch)


def update_cnnh(recipe: Recipe, state: TrainState, lr: Array, hr: Array) -> Updated:
    """Line 5 of Algorithm 1: one step of CNNH by L_SR + α L_SI (Eq. 5).

    The recipe's weights may name other terms as well (`terms.TERMS`). The gradient
    flows through CNNR and the discriminator to the super-resolved faces; their own
    parameters get none.

    Args:
      recipe: provides CNNH, the weights, the loss scale and the optimiser.
      state: with network 'cnnh' and the networks that the weighted terms read.
      lr: float32 [n, 112 / scale, 96 / scale, 3].
      hr: float32 [n, 112, 96, 3].

    Returns:
      The state with CNNH updated (`step` unchanged), and metrics.
    """
    frozen = jax.lax.stop_gradient(state.params)

    def l_cnnh(params, part):
        sr = apply(recipe.cnnh, params['cnnh'], part['lr'])
        loss, metrics = terms.hallucination_loss(
            recipe, frozen, sr, part['hr'], part.get('views')
        )
        return recipe.loss_scale * loss, metrics

    batch = {'lr': lr, 'hr': hr} | _views(recipe, state, len(hr))
    return descend(recipe, state, ('cnnh',), l_cnnh, batch)


def super_resolve(recipe: Recipe, state: TrainState, lr: Array) -> Array:
    """Line 3 of Algorithm 1: SR = CNNH(LR), float32 [n, 112, 96, 3]."""
    params = state.networks['cnnh'].params
    return in_parts(
        lambda part: apply(recipe.cnnh, params, part), lr, recipe.microbatches
    )


def recognition(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """An iteration of stage 1: CNNR on HR faces."""
    return update_cnnr(recipe, state, images.to_float(batch['hr']), batch['label'])


def distillation(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """An iteration of CNNR on HR faces by a teacher's features, without labels."""
    faces = images.to_float(batch['hr'])
    return update_by_teacher(recipe, state, faces, batch['target'])


def mixed_distillation(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """As `mixed_recognition`, with L_FR replaced by the teacher's view of HR faces."""
    lr, hr, _ = pairs(recipe, batch)
    sr = super_resolve(recipe, state, lr)
    targets = batch['target']
    return update_by_teacher(recipe, state, both(sr, hr), both(targets, targets))


def taught_integrated(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """`domain_integrated` with the teacher's features in place of labels."""
    state, recognised = mixed_distillation(recipe, state, batch)
    state, hallucinated = hallucination(recipe, state, batch)
    return state, recognised | hallucinated


def update_by_teacher(
    recipe: Recipe, state: TrainState, faces: Array, targets: Array
) -> Updated:
    """One step of CNNR towards a teacher's features, on the hypersphere.

    The loss is ‖CNNR(x) / ‖CNNR(x)‖ − t / ‖t‖‖²: Eq. 3 with the teacher's feature in
    place of the HR feature. If the state has a network 'head', a linear map from CNNR's
    features to the teacher's, it is trained as well.

    Args:
      recipe: provides CNNR and the optimisers.
      state: with network 'cnnr', and 'head' {'kernel': [feature_dim, d]} or none.
      faces: float32 [n, 112, 96, 3], constants here.
      targets: t, float32 [n, d], with their mean subtracted.

    Returns:
      The state with both updated (`step` unchanged), and metrics.
    """
    trained = tuple(name for name in ('cnnr', 'head') if name in state.networks)

    def objective(params, part):
        features = apply(recipe.cnnr, params['cnnr'], part['faces'])
        if 'head' in params:
            features = features @ params['head']['kernel']
        loss = losses.super_identity_loss(features, part['target'])
        return loss, {'distillation_loss': loss}

    batch = {'faces': jax.lax.stop_gradient(faces), 'target': targets}
    return descend(recipe, state, trained, objective, batch)


def hallucination(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """An iteration of CNNH alone, lines 2 and 5.

    Stage 2 minimises L_SR, and its recipe has no weights; approaches II and III
    minimise L_SR + α L_SI with a frozen CNNR.
    """
    lr, hr, _ = pairs(recipe, batch)
    return update_cnnh(recipe, state, lr, hr)


def mixed_recognition(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """An iteration of CNNR on SR and HR, lines 2 to 4; approach III's second stage."""
    lr, hr, labels = pairs(recipe, batch)
    sr = super_resolve(recipe, state, lr)
    return update_cnnr(recipe, state, both(sr, hr), both(labels, labels))


def joint(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """An iteration of approach I."""
    return update_joint(recipe, state, *pairs(recipe, batch))


def update_joint(
    recipe: Recipe, state: TrainState, lr: Array, hr: Array, labels: Array
) -> Updated:
    """One step of both networks by L_SR + α L_SI + β L_FR (Eq. 4, approach I).

    No gradient is stopped: L_FR also reaches CNNH, and L_SI also reaches CNNR. L_FR is
    the mean over the SR and HR faces.

    Args:
      recipe: the networks, losses, weights and optimisers.
      state: with networks 'cnnr', 'class_weights' and 'cnnh'.
      lr: float32 [n, 112 / scale, 96 / scale, 3].
      hr: float32 [n, 112, 96, 3].
      labels: int32 [n].

    Returns:
      The state with all networks updated (`step` unchanged), and metrics.
    """

    def objective(params, part):
        sr = apply(recipe.cnnh, params['cnnh'], part['lr'])
        l_cnnh, metrics = terms.hallucination_loss(
            recipe, params, sr, part['hr'], part.get('views')
        )
        faces, labels = both(sr, part['hr']), both(part['label'], part['label'])
        l_fr, more = _recognition_loss(recipe, params, state.step, faces, labels)
        loss = recipe.loss_scale * l_cnnh + recipe.loss_scale * recipe.beta * l_fr
        return loss, metrics | more

    batch = {'lr': lr, 'hr': hr, 'label': labels} | _views(recipe, state, len(hr))
    return descend(recipe, state, ('cnnr', 'class_weights', 'cnnh'), objective, batch)


def _views(recipe, state, count):
    """The views through which L_SI sees the faces of the batch, if there are any."""
    if not (recipe.identity_shift or recipe.identity_blur):
        return {}
    return {'views': terms.draw_views(recipe, state.step, count, AXIS)}


def _recognition_loss(recipe, params, step, faces, label, weight=None):
    """L_FR of faces, and the metrics logged with it."""
    features = apply(recipe.cnnr, params['cnnr'], faces)
    class_weights = params['class_weights']
    axis = AXIS if recipe.split_identities else None
    if recipe.sampled_identities:
        key = jax.random.fold_in(jax.random.key(recipe.seed), step)
        class_weights, label = losses.sample_identities(
            jax.random.fold_in(key, jax.lax.axis_index(AXIS)),
            class_weights,
            label,
            recipe.sampled_identities,
            axis_name=axis,
        )
    arguments = features, class_weights, label
    annealing = recipe.annealing(step)
    options = {'annealing': annealing, 'axis_name': axis}
    if weight is None:
        loss = recipe.recognition_loss(*arguments, **options)
    else:
        values = recipe.recognition_loss(*arguments, elementwise=True, **options)
        if axis:
            # Like the values, these are for the faces of all devices.
            weight = jax.lax.all_gather(weight, axis, tiled=True)
        loss = jnp.mean(weight * values)
    diagnostics = losses.margin_diagnostics(*arguments, axis_name=axis)
    return loss, {'recognition_loss': loss, 'annealing': annealing, **diagnostics}
