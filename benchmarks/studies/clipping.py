"""Are the paper's learning rates stable, with and without clipping of gradients?

    python -m benchmarks.studies.clipping --steps=300

The command trains narrow networks (those of configs/di.py:demo) with the optimisers of
configs/di.py, at the paper's learning rates from the first step on (with the
recognition stage's warm-up shortened to fit the run) and several clipping norms. It
prints the mean loss of the last tenth of the steps, or the first step that was not
finite.
"""

import argparse

import jax
import numpy as np

from benchmarks.measuring import append_record
from benchmarks.stages import prepare
from configs import di
from sicnn_jax import parallel
from sicnn_jax.data.dataset import open_faces
from sicnn_jax.descent import finite_networks

LOSSES = {'recognition': 'recognition_loss', 'hallucination': 'super_resolution_loss'}
CLIPS = {'recognition': (0.0, 5.0), 'hallucination': (0.0, 1.0, 10.0, 100.0)}


def train(stage_name: str, clip: float, batch: int, steps: int) -> list[float]:
    """Loss of every step, up to the first that is not finite."""
    config = di.get_config('demo')
    config.data.source = 'procedural'
    stage = config[stage_name]
    stage.batch_size = batch
    stage.optimizer = di.get_config()[stage_name].optimizer
    for optimizer in stage.optimizer.values():
        optimizer.clip = clip
        optimizer.warmup_steps = min(optimizer.warmup_steps, steps // 10)
    update, state, _ = prepare(config, stage_name)
    faces = open_faces(config.data, None)
    to_hr = jax.jit(faces.to_hr)
    batches = faces.train_batches(batch_size=batch, seed=0)
    losses = []
    for _ in range(steps):
        sharded = parallel.shard(jax.tree.map(np.asarray, to_hr(next(batches))))
        state, metrics = update(state, sharded)
        metrics = parallel.unreplicate(metrics)
        if not all(finite_networks(metrics).values()):
            break
        losses.append(float(metrics[LOSSES[stage_name]]))
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--batch', type=int, default=16)
    arguments = parser.parse_args()
    steps, batch = arguments.steps, arguments.batch
    for stage, clips in CLIPS.items():
        runs = {clip: train(stage, clip, batch, steps) for clip in clips}
        for clip, losses in runs.items():
            outcome = (
                f'loss {np.mean(losses[-max(steps // 10, 1) :]):.3f}'
                if len(losses) == steps
                else f'not finite at step {len(losses) + 1}'
            )
            print(f'{stage}, clip {clip or "none"}: {outcome}', flush=True)
        record = {'stage': stage, 'batch': batch, 'steps': steps, 'losses': runs}
        append_record('clipping', record)


if __name__ == '__main__':
    main()
