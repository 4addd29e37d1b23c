"""The judge: an independent recognition network for procedural faces.

Its seed and identities are no experiment's, so that it does not measure what a
hallucination network was trained against: with the same seed, layers of the same shape
would begin with the same weights. The judge that ships was made by

    python -m sicnn_jax.main --config=configs/judge.py
    python -m sicnn_jax.evaluation.judge --stage=runs/judge/recognition \
        --out=sicnn_jax/evaluation/judge.safetensors
"""

from ml_collections import ConfigDict

from configs import common
from sicnn_jax.config import schema


def get_config() -> ConfigDict:
    config = schema.base()
    # A seed that no experiment would choose: the day ECCV 2018 began.
    config.seed = 180_908
    config.data.source = 'embedded'
    config.data.seed = 1
    config.data.identities = 600
    config.data.images_per_identity = 30
    config.data.test_identities = 100
    config.data.test_images_per_identity = 10

    config.cnnr.widths = (8, 16, 64, 128)
    config.cnnr.depths = (1, 1, 2, 1)
    config.cnnr.feature_dim = 128
    config.cnnr.dtype = 'float32'

    config.log_every = 100
    config.evaluation.faces = 1_000
    config.evaluation.pairs = 2_000

    optimizer = common.adam(8e-4, clip=5.0)
    config.stages = ('recognition',)
    config.recognition = schema.stage(
        'recognition',
        steps=5_000,
        batch_size=16,
        optimizers={'cnnr': optimizer, 'class_weights': optimizer},
        data_seed=0,
        best='verification_accuracy',
        annealing={'base': 1500.0, 'gamma': 0.05},
        evaluate_every=500,
        checkpoint_every=500,
    )
    return config
