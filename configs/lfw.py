"""Real faces on two CPU cores: Labeled Faces in the Wild, light networks.

It expects shards of people with two or more images, with folds 7 and 8 held out, and a
finished demo, whose recognition network this one starts from:

    python -m sicnn_jax.data.prepare --source=lfw --landmarks=landmarks.txt \\
        --test_list=people_of_folds_7_and_8.txt --min_images=2 --out=data/lfw
    python -m sicnn_jax.main --config=configs/di.py:demo
    python -m sicnn_jax.main --config=configs/lfw.py --config.data.dir=data/lfw
    python -m sicnn_jax.evaluate --workdir=runs/lfw --pairs=pairs.txt --folds=7,8 \\
        --report=8 --judge=dlib

"Real faces" in docs/notes/narrow_networks.md has its results with narrow networks. It
has not been trained with light networks yet.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs import common
from sicnn_jax.config import schema

# Recognition; CNNH by L_SR; the last stages, Algorithm 1 and its control.
STEPS = (2_000, 1_500, 400)
ALPHA = 256.0


def get_config() -> ConfigDict:
    return experiment(
        STEPS,
        cnnr='runs/di-demo/recognition',
        evaluate_every=(500, 500, 440),
        checkpoint_every=220,
    )


def experiment(
    steps: tuple[int, int, int],
    *,
    cnnr: str,
    cnnh: str = '',
    evaluate_every: tuple[int, int, int],
    checkpoint_every: int,
) -> ConfigDict:
    """All stages on shards of real faces.

    Args:
      steps: of recognition, of CNNH by L_SR, and of the last stages.
      cnnr, cnnh: the finished stages that they start from; '': from scratch.
      evaluate_every: of the same three.
      checkpoint_every: of all stages.
    """
    config = schema.base()
    common.light_networks(config)
    config.data.source = 'records'
    config.data.shift = 2
    common.brief_evaluation(config)
    config.evaluation.pairs = 400
    config.stages = ('recognition', 'hallucination', 'sr_only', 'domain_integrated')

    def stage(place, update_rule, optimizers: Mapping[str, ConfigDict], **fields):
        return schema.stage(
            update_rule,
            steps=steps[place],
            batch_size=16,
            data_seed=place,
            optimizers=optimizers,
            evaluate_every=evaluate_every[place],
            checkpoint_every=checkpoint_every,
            **fields,
        )

    config.recognition = stage(
        0,
        'recognition',
        {'cnnr': common.adam(8e-4, 5.0), 'class_weights': common.adam(8e-4, 5.0)},
        init={'cnnr': cnnr},
        annealing={'base': 1500.0, 'gamma': 0.05},
        best='verification_accuracy',
    )
    config.hallucination = stage(
        1,
        'hallucination',
        {'cnnh': common.adam(2e-3, 2_000.0)},
        init={'cnnh': cnnh},
        best='psnr',
    )
    config.sr_only = stage(
        2,
        'hallucination',
        {'cnnh': common.adam(1e-3, 2_000.0)},
        init={'cnnh': 'hallucination'},
        best='identity_similarity',
    )
    config.domain_integrated = stage(
        2,
        'domain_integrated',
        {
            'cnnr': common.adam(2e-4, 5.0),
            'class_weights': common.adam(2e-4, 5.0),
            'cnnh': common.adam(1e-3, 2_000.0),
        },
        init={
            'cnnr': 'recognition',
            'class_weights': 'recognition',
            'cnnh': 'hallucination',
        },
        alpha=ALPHA,
        # λ continues where recognition ended.
        annealing={'base': 1500.0, 'gamma': 0.05, 'offset': steps[0]},
        fused=True,
        best='identity_similarity',
    )
    return config
