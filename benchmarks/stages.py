"""A stage of a config with its initial networks, ready to take steps."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import parallel, train
from sicnn_jax.data.dataset import Faces, open_faces
from sicnn_jax.stages import Stage
from sicnn_jax.train_state import TrainState


def prepare(config: ConfigDict, stage_name: str) -> tuple[Callable, Any, Any]:
    """A stage of a config, initialised, and a batch of procedural faces.

    If a stage learns from a teacher, the teacher's features are random.

    Returns:
      (state, batch) → (state, metrics), mapped over devices; the state; the batch.
    """
    stage = train.build_stage(config, stage_name, Path('unused'))
    faces = open_faces(config.data, Path('unused'))
    state = fresh_state(config, stage, faces)
    update = train.dispatch(stage, lambda batch: batch)
    drawn = next(faces.train_batches(batch_size=stage.config.batch_size, seed=0))
    batch = jax.tree.map(np.asarray, jax.jit(faces.to_hr)(drawn))
    if stage.rule.taught:
        size = len(batch['label']), stage.recipe.cnnr.feature_dim
        batch['target'] = np.random.default_rng(0).normal(size=size).astype(np.float32)
    return functools.partial(update, resident={}), state, parallel.shard(batch)


def stepper(config: ConfigDict, stage_name: str) -> Callable[[], Any]:
    """A function that takes a step of a stage on one batch; it returns the metrics."""
    update, state, batch = prepare(config, stage_name)

    def take_step():
        nonlocal state
        state, metrics = update(state, batch)
        return metrics

    return take_step


def fresh_state(config: ConfigDict, stage: Stage, faces: Faces) -> TrainState:
    """All networks of a stage, freshly initialised on the devices."""
    params = {
        network: _fitted(stage, faces)
        if network == 'cnnr' and hasattr(stage.recipe.cnnr, 'fit')
        else train.initialise(config, stage, network, faces)
        for network in stage.networks
    }
    return parallel.to_devices(
        TrainState.create(params, stage.recipe.optimizers),
        split_identities=stage.recipe.split_identities,
    )


def _fitted(stage, faces):
    """Parameters of a recogniser trained elsewhere, fitted to only two faces."""
    hr, _ = faces.test_faces(2)
    return stage.recipe.cnnr.fit(hr)
