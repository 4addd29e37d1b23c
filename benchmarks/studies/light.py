"""Shared by the studies of light networks: the time of a step, and two judged folds.

The folds are 7 and 8 of LFW's pairs. No network here is trained on their people.
Choices are made by fold 7, and fold 8 is for the report.
"""

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.measuring import time_calls
from configs import real
from sicnn_jax import checkpoint, inference, metrics, models, parallel, train
from sicnn_jax.evaluation import held_out
from sicnn_jax.evaluation.judge import load_judge
from sicnn_jax.models.convolutions import on_any_backend, use_winograd
from sicnn_jax.train_state import TrainState
from tests.counting import multiply_adds

CHOICE, REPORT = 7, 8
_STEPS_TIMED = 12


def parser(doc: str) -> argparse.ArgumentParser:
    """The parser of a command with this docstring; --data and --pairs are required."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    add = made.add_argument
    add('--data', type=Path, required=True, help='shards with folds 7 and 8 as test')
    add('--pairs', required=True, help="LFW's pairs.txt")
    return made


def configure(data: Path) -> ConfigDict:
    """The config of configs/real.py with only its first stage, which trains by L_SR."""
    return second_stage_alone(real.get_config(), data)


def second_stage_alone(config: ConfigDict, data: Path) -> ConfigDict:
    """Leaves a config only its stage `hallucination`, trained on these shards."""
    for name in config.stages:
        if name != 'hallucination':
            del config[name]
    config.stages = ('hallucination',)
    config.data.dir = str(data)
    config.hallucination.evaluate_every = 1_000
    return config


def steps_in(minutes: float, step_seconds: float) -> int:
    """The number of steps that take some minutes, a multiple of `config.log_every`."""
    every = real.get_config().log_every
    return round(minutes * 60 / step_seconds / every) * every


def count(config: ConfigDict) -> dict[str, int]:
    """Parameters of CNNH, and its multiply-adds per face with direct convolutions."""
    cnnh = train.build_stage(config, 'hallucination', Path('unused')).recipe.cnnh
    lr = _lr(config)
    params = _draw_params(cnnh, lr)
    with on_any_backend():
        counted = multiply_adds(
            lambda params, lr: cnnh.apply({'params': params}, lr), params, lr
        )
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    return {'parameters': sum(sizes), 'multiply_adds': counted}


def time_steps(config: ConfigDict) -> dict[str, float]:
    """Seconds of a step (median) and of the first one, with compilation, and `count`.

    Args:
      config: with the stage `hallucination`; its faces are drawn at random here.
    """
    stage = train.build_stage(config, 'hallucination', Path('unused'))
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (stage.config.batch_size, 112, 96, 3), np.uint8)
    params = {
        name: _draw_params(
            getattr(stage.recipe, name), _lr(config) if name == 'cnnh' else hr[:1]
        )
        for name in stage.networks
    }
    state = parallel.to_devices(TrainState.create(params, stage.recipe.optimizers))
    update = train.dispatch(stage, lambda batch: batch)
    batch = parallel.shard({'hr': hr, 'label': np.zeros(len(hr), np.int32)})

    def step():
        nonlocal state
        state, metrics = update(state, batch, {})
        return metrics

    with use_winograd(config.winograd):
        first, *seconds = time_calls(step, _STEPS_TIMED + 1)
    timed = {'step_seconds': statistics.median(seconds), 'compile_seconds': first}
    return timed | count(config)


def _lr(config):
    """The input of CNNH, one face."""
    return jax.ShapeDtypeStruct((1, *models.LR_SHAPES[config.scale], 3), jnp.float32)


def _draw_params(network, faces):
    """Random parameters, without compiling the function that initialises them."""
    rng = np.random.default_rng(0)
    faces = jax.ShapeDtypeStruct(faces.shape, jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), faces)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.02, leaf.shape).astype(np.float32),
        shapes['params'],
    )


class Folds:
    """The people of folds 7 and 8 as a judge sees them; it sees originals only once.

    Args:
      data: shards.
      pairs: LFW's pairs.txt.
      judge: for `load_judge`.
      scale: 8 or 4.
    """

    def __init__(self, data: Path, pairs: str, judge: str, scale: int = 8):
        config = real.get_config()
        self._judge = load_judge(judge)
        self._pairs = {}
        for fold in (CHOICE, REPORT):
            self.hr, self._pairs[fold], _ = held_out.load_test_faces(
                config, data, data=str(data), pairs=pairs, folds=(7, 8), report=(fold,)
            )
        self.lr = inference.degrade_faces(self.hr, scale=scale, kind='bicubic')
        self._seen, verified = self._judge.describe(self.hr)
        self._centre = self._seen.mean(0) if self._judge.centred else 0.0
        self.originals = {
            str(fold): {'verification': pairs.verify(verified)[0]}
            for fold, pairs in self._pairs.items()
        }
        self.enlarged = inference.enlarge_faces(self.lr)
        self.bicubic = self.measure(self.enlarged)

    def measure(self, sr: np.ndarray) -> dict[str, dict[str, float]]:
        """PSNR, similarity and verification of all faces, for each fold."""
        seen, verified = self._judge.describe(sr)
        similarity = metrics.pair_scores(seen - self._centre, self._seen - self._centre)
        psnr = metrics.psnr(sr, self.hr)
        return {
            str(fold): {
                'psnr': float(psnr[pairs.shown].mean()),
                'similarity': float(similarity[pairs.shown].mean()),
                'verification': pairs.verify(verified)[0],
            }
            for fold, pairs in self._pairs.items()
        }


# Headings of `both_folds`.
FOLD_COLUMNS = tuple(
    f'{column}, fold {fold}'
    for fold in (CHOICE, REPORT)
    for column in ('PSNR', 'similarity', 'verification')
)


def both_folds(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The cells of a table for what `Folds.measure` returns."""
    return [cell for fold in (CHOICE, REPORT) for cell in cells(found[str(fold)])]


def cells(found: Mapping[str, float]) -> list[str]:
    """Cells of a table, from what `Folds.measure` returns for a fold."""
    return [
        f'{found["psnr"]:.2f}',
        f'{found["similarity"]:.4f}',
        f'{found["verification"]:.1%}',
    ]


def super_resolve(stage: Path, lr: np.ndarray) -> np.ndarray:
    """Faces enlarged by the CNNH of a finished stage."""
    params, record = checkpoint.load_networks(stage, ['cnnh'])
    return inference.super_resolve(models.cnnh_from(record), params['cnnh'], lr)
