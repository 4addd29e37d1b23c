"""SICNN by domain-integrated training: the paper's main experiment.

    --config=configs/di.py         the paper: its widths, batches and schedules
    --config=configs/di.py:small   one modest GPU or a Colab TPU: half the widths
    --config=configs/di.py:light   light networks, for two CPU cores and an hour or two
    --config=configs/di.py:demo    the same networks in minutes

Stages: CNNR by L_FR (recognition); CNNH by L_SR (hallucination); Algorithm 1
(domain_integrated); and sr_only, the control: the same batches, schedule and
optimiser as domain_integrated with α = 0. Each starts from the ones before it.
"""

from ml_collections import ConfigDict

from configs import common

VARIANTS = ('', 'small', 'light', 'demo')


def get_config(variant: str = '') -> ConfigDict:
    """The experiment; raises ValueError for an unknown variant."""
    if variant not in VARIANTS:
        raise ValueError(
            f'configs/di.py has no variant {variant!r}; it has '
            f'{", ".join(v or "none (the paper)" for v in VARIANTS)}.'
        )
    config = common.base()
    config.stages = ('recognition', 'hallucination', 'sr_only', 'domain_integrated')
    if variant == 'demo':
        _drawn(config, identities=400, recognition=1_600, hallucination=200, third=80)
    elif variant == 'light':
        _drawn(
            config,
            identities=1_000,
            recognition=6_000,
            hallucination=6_000,
            third=2_000,
        )
    else:
        _paper(config)
        if variant == 'small':
            _small(config)
    return config


def _paper(config: ConfigDict) -> None:
    """Sec. 4.1. Momentum, decay, clipping, warm-up: see docs/decisions.md."""
    config.recognition = common.recognition_stage()
    config.hallucination = common.hallucination_stage()

    def sgd(clip):
        return common.optimizer(
            'sgd', 0.01, boundaries=(6_000,), weight_decay=2.5e-4, clip=clip
        )

    third_stage = {
        'steps': 9_000,
        'batch_size': 128,
        'data_seed': 2,
        'best': 'identity_similarity',
    }
    config.sr_only = common.stage(
        'hallucination',
        optimizers={'cnnh': sgd(1.0)},
        init={'cnnh': 'hallucination'},
        **third_stage,
    )
    config.domain_integrated = common.stage(
        'domain_integrated',
        optimizers={'cnnr': sgd(5.0), 'class_weights': sgd(5.0), 'cnnh': sgd(1.0)},
        init={
            'cnnr': 'recognition',
            'class_weights': 'recognition',
            'cnnh': 'hallucination',
        },
        alpha=8.0,
        fused=True,
        # λ goes on from where the recognition stage left it.
        annealing={'offset': 35_000},
        **third_stage,
    )


def _small(config: ConfigDict) -> None:
    config.cnnr.widths = (32, 64, 128, 256)
    config.cnnr.feature_dim = 256
    config.cnnh.width = 32
    config.cnnh.growth = 16
    config.cnnh.deconv_width = 64
    config.data.identities = 4_000
    config.data.test_identities = 200
    for name, steps, batch_size in (
        ('recognition', 10_000, 128),
        ('hallucination', 10_000, 64),
        ('sr_only', 2_000, 64),
        ('domain_integrated', 2_000, 64),
    ):
        stage = config[name]
        shrink = steps / stage.steps
        for optimizer in stage.optimizer.values():
            optimizer.boundaries = tuple(
                round(boundary * shrink) for boundary in optimizer.boundaries
            )
            optimizer.warmup_steps = round(optimizer.warmup_steps * shrink)
        stage.steps, stage.batch_size = steps, batch_size
        stage.evaluate_every = 1_000
    # Learning rate by the square root of the batch size.
    config.recognition.optimizer.cnnr.learning_rate = 0.05
    config.recognition.optimizer.class_weights.learning_rate = 0.05
    config.domain_integrated.annealing.offset = 10_000


def _drawn(
    config: ConfigDict,
    *,
    identities: int,
    recognition: int,
    hallucination: int,
    third: int,
) -> None:
    """Light networks on embedded faces, Adam: see docs/decisions.md.

    Args:
      config: to be changed.
      identities: people to train on.
      recognition, hallucination, third: steps of the stages.
    """
    common.light_networks(config)
    config.data.source = 'embedded'
    config.data.identities = identities
    config.data.images_per_identity = 20
    config.data.test_identities = 100
    config.data.test_images_per_identity = 10

    def adam(learning_rate, clip):
        return common.optimizer('adam', learning_rate, schedule='cosine', clip=clip)

    config.log_every = 20
    config.evaluation.faces = 200
    config.evaluation.pairs = 400
    config.evaluation.final_pairs = 2_000
    annealing = {'base': 1500.0, 'gamma': 0.05}
    often = {'evaluate_every': 440, 'checkpoint_every': 220}
    config.recognition = common.stage(
        'recognition',
        steps=recognition,
        batch_size=16,
        optimizers={'cnnr': adam(8e-4, 5.0), 'class_weights': adam(8e-4, 5.0)},
        data_seed=0,
        best='verification_accuracy',
        annealing=annealing,
        **often,
    )
    config.hallucination = common.stage(
        'hallucination',
        steps=hallucination,
        batch_size=16,
        optimizers={'cnnh': adam(2e-3, 2_000.0)},
        data_seed=1,
        best='psnr',
        **often,
    )
    third_stage = {
        'steps': third,
        'batch_size': 16,
        'data_seed': 2,
        'best': 'identity_similarity',
        **often,
    }
    config.sr_only = common.stage(
        'hallucination',
        optimizers={'cnnh': adam(1e-3, 2_000.0)},
        init={'cnnh': 'hallucination'},
        **third_stage,
    )
    config.domain_integrated = common.stage(
        'domain_integrated',
        optimizers={
            'cnnr': adam(2e-4, 5.0),
            'class_weights': adam(2e-4, 5.0),
            'cnnh': adam(1e-3, 2_000.0),
        },
        init={
            'cnnr': 'recognition',
            'class_weights': 'recognition',
            'cnnh': 'hallucination',
        },
        # At this scale the paper's 8 moves nothing: docs/results.md.
        alpha=256.0,
        fused=True,
        annealing=annealing | {'offset': recognition},
        **third_stage,
    )
