"""SICNN by domain-integrated training: the paper's main experiment.

    --config=configs/di.py         the paper: its widths, batches and schedules
    --config=configs/di.py:small   one modest GPU or a Colab TPU: half the widths
    --config=configs/di.py:light   light networks, for two CPU cores and an hour or two
    --config=configs/di.py:demo    the same networks, in eight minutes
    --config=configs/di.py:real    the same networks on photographs, with a CNNR that a
                                   teacher taught, as in configs/real.py:distilled

Stages: CNNR by L_FR (recognition); CNNH by L_SR (hallucination); Algorithm 1
(domain_integrated); and sr_only, the control: the same batches, schedule and
optimiser as domain_integrated with α = 0. Each starts from the ones before it.

PSNR and similarity of the demo, by the judge that ships, on two cores of an Intel Xeon:
bicubic 23.43 dB and 0.097, sr_only 25.24 dB and 0.258, SICNN 25.07 dB and 0.349. The
other variants have not been trained to the end yet.

The experiments that compare other methods share this one's data, CNNR and budget: they
call `start`, `second_stage` and `third_stage`.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import common
from sicnn_jax.config import schema

VARIANTS = ('', 'small', 'light', 'demo', 'real')

# Steps of the recognition stage, and of CNNH's first and last one.
STEPS = {
    '': (35_000, 80_000, 9_000),
    'small': (10_000, 10_000, 2_000),
    'light': (6_000, 6_000, 2_000),
    'demo': (1_600, 200, 80),
    'real': (2_400, 1_000, 400),
}
BATCHES = {
    '': (512, 128, 128),
    'small': (128, 64, 64),
    'light': (16, 16, 16),
    'demo': (16, 16, 16),
    'real': (32, 16, 16),
}
# Steps after which SGD's learning rate falls to a tenth: those of Sec. 4.1, or at the
# same shares of the steps.
BOUNDARIES = {
    '': ((20_000, 30_000), (30_000, 60_000), (6_000,)),
    'small': ((5_714, 8_571), (3_750, 7_500), (1_333,)),
}
_BY_ADAM = ('light', 'demo', 'real')


def get_config(variant: str = '') -> ConfigDict:
    """The experiment; raises ValueError for an unknown variant."""
    config = start('configs/di.py', variant)
    config.stages = ('recognition', 'hallucination', 'sr_only', 'domain_integrated')
    config.hallucination = second_stage(variant, 'hallucination')
    config.sr_only = third_stage(
        variant, 'hallucination', init={'cnnh': 'hallucination'}
    )
    config.domain_integrated = domain_integrated_stage(variant)
    if variant == 'real':
        # Not among the stages: it is compared in benchmarks/studies/variations.py.
        config.taught_integrated = taught_integrated_stage(variant)
    return config


def start(file: str, variant: str) -> ConfigDict:
    """Data, networks, evaluation and the recognition stage of a variant.

    Raises:
      ValueError: `file`, the config, has no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(
            f'{file} has no variant {variant!r}; it has '
            f'{", ".join(v or "none (the paper)" for v in VARIANTS)}.'
        )
    config = schema.base()
    if variant == 'small':
        config.cnnr.widths = (32, 64, 128, 256)
        config.cnnr.feature_dim = 256
        config.cnnh.width = 32
        config.cnnh.growth = 16
        config.cnnh.deconv_width = 64
        config.data.identities = 4_000
        config.data.test_identities = 200
    elif variant == 'real':
        common.light_networks(config)
        common.photographs(config)
        config.recognition = common.taught_recogniser(config, STEPS[variant][0])
        return config
    elif variant in _BY_ADAM:
        common.light_networks(config)
        config.data.source = 'embedded'
        config.data.identities = 400 if variant == 'demo' else 1_000
        config.data.images_per_identity = 20
        config.data.test_identities = 100
        config.data.test_images_per_identity = 10
        common.brief_evaluation(config)
        config.evaluation.pairs = 400
    config.recognition = recognition_stage(variant)
    return config


def recognition_stage(variant: str = '') -> ConfigDict:
    """Stage 1 of Sec. 4.1: CNNR by A-Softmax."""
    if variant in _BY_ADAM:
        optimizer = common.adam(8e-4, clip=5.0)
    else:
        optimizer = schema.optimizer(
            'sgd',
            # It scales with the square root of the batch size.
            0.1 if variant == '' else 0.05,
            boundaries=BOUNDARIES[variant][0],
            warmup_steps=1_000 if variant == '' else 286,
            weight_decay=5e-4,
            clip=5.0,
        )
    return schema.stage(
        'recognition',
        optimizers={'cnnr': optimizer, 'class_weights': optimizer},
        annealing=_annealing(variant),
        best='verification_accuracy',
        **_budget(variant, 0),
    )


def second_stage(variant: str, update_rule: str, **fields: Any) -> ConfigDict:
    """Stage 2 of Sec. 4.1, CNNH from scratch; `fields` are those of `schema.stage`."""
    if variant in _BY_ADAM:
        optimizer = common.adam(2e-3, clip=2_000.0)
    else:
        optimizer = _sgd(0.02, BOUNDARIES[variant][1], clip=1.0)
    defaults = {'optimizers': {'cnnh': optimizer}, 'best': 'psnr'}
    return schema.stage(update_rule, **_budget(variant, 1) | defaults | fields)


def third_stage(variant: str, update_rule: str, **fields: Any) -> ConfigDict:
    """CNNH's last stage with its batches, schedule and optimiser, as `second_stage`."""
    defaults = {
        'optimizers': {'cnnh': cnnh_optimizer(variant)},
        'best': 'identity_similarity',
    }
    return schema.stage(update_rule, **_budget(variant, 2) | defaults | fields)


def domain_integrated_stage(variant: str) -> ConfigDict:
    """Algorithm 1. Momentum, decay, clipping: see docs/decisions.md."""
    return third_stage_of_both(
        variant,
        'domain_integrated',
        # Both updates in one program, which saves one forward pass of CNNH.
        fused=variant in _BY_ADAM,
    )


def third_stage_of_both(variant: str, update_rule: str, **fields: Any) -> ConfigDict:
    """A last stage that trains CNNR, its class weights and CNNH, as `third_stage`."""
    return third_stage(
        variant,
        update_rule,
        optimizers=recogniser_optimizers(variant) | {'cnnh': cnnh_optimizer(variant)},
        init=from_both(variant),
        annealing=mixed_annealing(variant),
        **identity(variant),
        **fields,
    )


def taught_integrated_stage(variant: str) -> ConfigDict:
    """Algorithm 1 with the teacher's features of SR ∪ HR instead of names."""
    stage = domain_integrated_stage(variant)
    return third_stage(
        variant,
        'taught_integrated',
        optimizers={name: stage.optimizer[name] for name in ('cnnr', 'cnnh')},
        init={name: stage.init[name] for name in ('cnnr', 'cnnh')},
        fused=stage.fused,
        **identity(variant),
    )


def from_both(variant: str) -> dict[str, str]:
    """Where the networks of a last stage come from.

    A CNNR that a teacher taught comes without class weights.
    """
    weights = 'centroids' if variant == 'real' else 'recognition'
    return {'cnnr': 'recognition', 'class_weights': weights, 'cnnh': 'hallucination'}


def identity(variant: str) -> dict[str, Any]:
    """α, and how CNNR sees faces for L_SI.

    The paper's α = 8 has no effect in short training (docs/notes).
    """
    alpha = {'alpha': 256.0 if variant in _BY_ADAM else 8.0}
    return alpha | (common.VIEWS if variant == 'real' else {})


def recogniser_optimizers(variant: str) -> dict[str, ConfigDict]:
    """Optimisers of CNNR and its class weights after the recognition stage."""
    if variant == 'real':
        optimizer = common.adam(1e-4, clip=1.0)
    elif variant in _BY_ADAM:
        optimizer = common.adam(2e-4, clip=5.0)
    else:
        optimizer = _sgd(0.01, BOUNDARIES[variant][2], clip=5.0)
    return {'cnnr': optimizer, 'class_weights': optimizer}


def cnnh_optimizer(variant: str) -> ConfigDict:
    """The optimiser of CNNH in its last stage."""
    if variant in _BY_ADAM:
        return common.adam(1e-3, clip=2_000.0)
    return _sgd(0.01, BOUNDARIES[variant][2], clip=1.0)


def mixed_annealing(variant: str) -> dict[str, float]:
    """The schedule of λ, which continues where the recognition stage ended."""
    return _annealing(variant) | {'offset': STEPS[variant][0]}


def _annealing(variant):
    return {'base': 1500.0, 'gamma': 0.05} if variant in _BY_ADAM else {}


def _budget(variant, position):
    """How long and on which batches a stage trains, and how often it is evaluated."""
    every = {'': (5_000, 1_000), 'small': (1_000, 1_000)}.get(variant, (440, 220))
    return {
        'steps': STEPS[variant][position],
        'batch_size': BATCHES[variant][position],
        # The last stages of CNNH all see the same batches.
        'data_seed': position,
        'evaluate_every': every[0],
        'checkpoint_every': every[1],
    }


def _sgd(learning_rate, boundaries, clip):
    return schema.optimizer(
        'sgd', learning_rate, boundaries=boundaries, weight_decay=2.5e-4, clip=clip
    )
