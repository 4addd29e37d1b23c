"""A light CNNH on real photographs, by L_SR, in minutes on two CPU cores.

Shards of any photographs; the names of people are not used:

    python -m sicnn_jax.data.prepare --source=photos --detect --test_identities=0.1 \\
        --out=data/faces
    python -m sicnn_jax.main --config=configs/real.py --config.data.dir=data/faces
    python -m sicnn_jax.evaluate --workdir=runs/real --judge=dlib

`--config.scale=4` is for faces of 24×28 pixels. More steps give better faces:
`--config.hallucination.steps=8000`.

On LFW without the people of folds 7 and 8, 700 and 200 steps (six minutes on two cores
of an Intel Xeon) end at 25.63 dB on those people, where bicubic has 23.47.

Stages: CNNH by L_SR (hallucination), and sr_only, the control of a third stage with
other losses, which starts from it.
"""

from ml_collections import ConfigDict

from configs import common
from sicnn_jax.config import schema


def get_config() -> ConfigDict:
    config = schema.base()
    common.light_networks(config)
    config.data.source = 'records'
    config.data.placement = 'device'
    config.data.shift = 2
    config.data.zoom = 0.04
    config.data.rotation = 4.0
    config.data.brightness = 0.08
    config.data.contrast = 0.15
    config.data.saturation = 0.2

    config.log_every = 20
    config.evaluation.faces = 200
    config.evaluation.final_pairs = 2_000

    def adam(learning_rate):
        return schema.optimizer('adam', learning_rate, schedule='cosine', clip=2_000.0)

    config.stages = ('hallucination', 'sr_only')
    config.hallucination = schema.stage(
        'hallucination',
        steps=1_000,
        batch_size=16,
        optimizers={'cnnh': adam(2e-3)},
        data_seed=1,
        best='psnr',
        evaluate_every=500,
        checkpoint_every=100,
    )
    config.sr_only = schema.stage(
        'hallucination',
        steps=400,
        batch_size=16,
        optimizers={'cnnh': adam(1e-3)},
        init={'cnnh': 'hallucination'},
        data_seed=2,
        best='psnr',
        evaluate_every=200,
        checkpoint_every=100,
    )
    return config
