"""Training approaches I, II and III of Sec. 3.5, compared with Algorithm 1 in Table 3.

    --config=configs/approaches.py         the paper's widths and schedules
    --config=configs/approaches.py:small   as configs/di.py:small
    --config=configs/approaches.py:light   as configs/di.py:light
    --config=configs/approaches.py:demo    as configs/di.py:demo
    --config=configs/approaches.py:real    as configs/di.py:real

I trains both networks from scratch, in one update by L_SR + α L_SI + β L_FR, over the
batches that CNNH sees elsewhere in two stages (`:real`: in a third stage that starts
where the others start). II trains CNNH of the hallucination stage against the frozen
CNNR of the recognition stage. III first trains that CNNR on the faces of a frozen CNNH
and on their originals (mixed), and then CNNH against it as in II. The third stages have
the batches, schedule, optimisers and α of domain-integrated training. A run of
configs/di.py gives the first two stages:

    python -m sicnn_jax.main --config=configs/approaches.py:demo \\
        --config.recognition.checkpoint=runs/di-demo/recognition \\
        --config.hallucination.checkpoint=runs/di-demo/hallucination \\
        --config.data.dir=runs/di-demo/data

docs/results.md has the results on photographs, and docs/notes/narrow_networks.md those
of narrow networks on drawn faces.
"""

from ml_collections import ConfigDict

from configs import di

VARIANTS = di.VARIANTS


def get_config(variant: str = '') -> ConfigDict:
    """The experiment; raises ValueError for an unknown variant."""
    config = di.start('configs/approaches.py', variant)
    config.stages = (
        'recognition',
        'hallucination',
        'approach_i',
        'approach_ii',
        'mixed',
        'approach_iii',
    )
    config.hallucination = di.second_stage(variant, 'hallucination')
    config.approach_i = _joint_stage(config, variant)
    config.mixed = di.third_stage(
        variant,
        'mixed_recognition',
        optimizers=di.recogniser_optimizers(variant),
        init=di.from_both(variant),
        annealing=di.mixed_annealing(variant),
        best='verification_accuracy',
    )
    for name, cnnr in (('approach_ii', 'recognition'), ('approach_iii', 'mixed')):
        config[name] = di.third_stage(
            variant,
            'hallucination',
            init={'cnnr': cnnr, 'cnnh': 'hallucination'},
            **di.identity(variant),
        )
    return config


def _joint_stage(config, variant):
    if variant == 'real':
        return di.third_stage_of_both(variant, 'joint')
    _, second, third = di.STEPS[variant]
    return di.second_stage(
        variant,
        'joint',
        steps=second + third,
        data_seed=2,
        optimizers={**config.recognition.optimizer, **config.hallucination.optimizer},
        annealing=config.recognition.annealing.to_dict(),
        **di.identity(variant),
    )
