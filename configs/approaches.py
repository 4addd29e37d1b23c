"""Training approaches I, II and III of Sec. 3.5, beside Algorithm 1 in Table 3.

    --config=configs/approaches.py         the paper's widths and schedules
    --config=configs/approaches.py:small   as configs/di.py:small
    --config=configs/approaches.py:light   as configs/di.py:light
    --config=configs/approaches.py:demo    as configs/di.py:demo

I: both networks from scratch, in one update by L_SR + α L_SI + β L_FR, over the batches
that CNNH sees elsewhere in two stages. II: CNNH of the hallucination stage against the
CNNR of the recognition stage, frozen. III: that CNNR trained on the faces of a frozen
CNNH and on their originals first (mixed), then CNNH against it as in II. The third
stages have the batches, schedule, optimisers and α of domain-integrated training. A run
of configs/di.py gives the first two:

    python -m sicnn_jax.main --config=configs/approaches.py:demo \\
        --config.recognition.checkpoint=runs/di-demo/recognition \\
        --config.hallucination.checkpoint=runs/di-demo/hallucination \\
        --config.data.dir=runs/di-demo/data
"""

from ml_collections import ConfigDict

from configs import common, di

VARIANTS = di.VARIANTS


def get_config(variant: str = '') -> ConfigDict:
    """The experiment; raises ValueError for an unknown variant."""
    if variant not in VARIANTS:
        raise ValueError(
            f'configs/approaches.py has no variant {variant!r}; it has '
            f'{", ".join(v or "none (the paper)" for v in VARIANTS)}.'
        )
    config = di.get_config(variant)
    algorithm_1, recognition = config.domain_integrated, config.recognition
    third_stage = {
        field: algorithm_1[field]
        for field in (
            'steps',
            'batch_size',
            'data_seed',
            'evaluate_every',
            'checkpoint_every',
        )
    }
    config.approach_i = common.stage(
        'joint',
        optimizers={
            'cnnr': recognition.optimizer.cnnr,
            'class_weights': recognition.optimizer.class_weights,
            'cnnh': config.hallucination.optimizer.cnnh,
        },
        alpha=algorithm_1.alpha,
        annealing=recognition.annealing.to_dict(),
        best='psnr',
        **third_stage
        | {
            'steps': config.hallucination.steps + algorithm_1.steps,
            'batch_size': config.hallucination.batch_size,
        },
    )
    config.mixed = common.stage(
        'mixed_recognition',
        optimizers={
            network: algorithm_1.optimizer[network]
            for network in ('cnnr', 'class_weights')
        },
        init={
            'cnnr': 'recognition',
            'class_weights': 'recognition',
            'cnnh': 'hallucination',
        },
        annealing=algorithm_1.annealing.to_dict(),
        best='verification_accuracy',
        **third_stage,
    )
    for name, cnnr in (('approach_ii', 'recognition'), ('approach_iii', 'mixed')):
        config[name] = common.stage(
            'hallucination',
            optimizers={'cnnh': algorithm_1.optimizer.cnnh},
            init={'cnnr': cnnr, 'cnnh': 'hallucination'},
            alpha=algorithm_1.alpha,
            best='identity_similarity',
            **third_stage,
        )
    del config.sr_only, config.domain_integrated
    config.stages = (
        'recognition',
        'hallucination',
        'approach_i',
        'approach_ii',
        'mixed',
        'approach_iii',
    )
    return config
