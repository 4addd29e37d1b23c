"""A light CNNH on real photographs, in minutes to hours on two CPU cores.

    --config=configs/real.py             by L_SR alone; names of people are not used
    --config=configs/real.py:dlib        then by L_SI through dlib's network
    --config=configs/real.py:onnx        then by L_SI through an ONNX file
    --config=configs/real.py:distilled   then by L_SI through a CNNR that dlib taught
    --config=configs/real.py:labels      then by L_SI through a CNNR trained on names

It needs shards of any photographs and, for some variants, a teacher's features of them:

    python -m sicnn_jax.data.prepare --source=photos --detect --test_identities=0.1 \\
        --out=data/faces
    python -m sicnn_jax.describe --data=data/faces --teacher=dlib
    python -m sicnn_jax.main --config=configs/real.py:distilled \\
        --config.data.dir=data/faces \\
        --config.data.targets=data/faces/targets-dlib.safetensors
    python -m sicnn_jax.evaluate --workdir=runs/real-distilled --judge=JUDGE.onnx

The variant `onnx` needs `--config.cnnr.file=NETWORK.onnx`. `--config.scale=4` is for
faces of 24×28 pixels. More steps give better faces:
`--config.hallucination.steps=8000`. The judge should not be the network that taught.

On LFW without the people of folds 7 and 8, 700 and 200 steps by L_SR (six minutes on
two cores of an Intel Xeon) reach 25.63 dB on those people; bicubic has 23.47 dB.
docs/notes/light_networks.md has the results of the other variants.

Stages: the network that recognises (recognition), if there is one; CNNH by L_SR
(hallucination); and the last ones, which start from it: sr_only, the control;
approach_ii, L_SI through the network as it is; domain_integrated, Algorithm 1;
taught_integrated, Algorithm 1 with the teacher's features instead of names.
"""

from ml_collections import ConfigDict

from configs import common
from sicnn_jax.config import schema

VARIANTS = ('', 'dlib', 'onnx', 'distilled', 'labels')
# Weight of L_SI.
ALPHA = 300.0
# Groups of dlib's network that are compared in addition to its features. Groups 3 and 4
# please a judge little more than 3 alone, and leave more of a grid in the pictures.
ACTIVATIONS = (3,)
FROZEN = {'cnnr': 'recognition'}
# Limit of CNNH's gradient.
CLIP = 2_000.0


def get_config(variant: str = '') -> ConfigDict:
    """The experiment; raises ValueError for an unknown variant."""
    if variant not in VARIANTS:
        raise ValueError(
            f'configs/real.py has no variant {variant!r}; it has '
            f'{", ".join(v or "none" for v in VARIANTS)}.'
        )
    config = schema.base()
    common.light_networks(config)
    common.photographs(config)
    config.hallucination = schema.stage(
        'hallucination',
        steps=2_000,
        batch_size=16,
        optimizers={'cnnh': common.adam(2e-3, CLIP)},
        data_seed=1,
        best='psnr',
        evaluate_every=500,
        checkpoint_every=100,
    )
    config.sr_only = _last_stage('hallucination')
    config.stages = ('hallucination', 'sr_only')
    if variant:
        config.recognition = _recognition_stage(config, variant)
        config.approach_ii = _last_stage('hallucination', alpha=ALPHA, init=FROZEN)
        config.stages = ('recognition', *config.stages, 'approach_ii')
    if variant == 'dlib':
        config.approach_ii.perceptual_weight = ALPHA
    if variant == 'distilled':
        config.taught_integrated = _last_stage(
            'taught_integrated',
            alpha=ALPHA,
            init=FROZEN,
            cnnr=common.adam(1e-4, clip=1.0),
        )
        config.stages += ('taught_integrated',)
    if variant in ('distilled', 'labels'):
        weights = 'centroids' if variant == 'distilled' else 'recognition'
        config.domain_integrated = _last_stage(
            'domain_integrated',
            alpha=ALPHA,
            init=FROZEN | {'class_weights': weights},
            annealing={'base': 1500.0, 'gamma': 0.05, 'offset': 1_600},
            cnnr=common.adam(1e-4, clip=1.0),
            class_weights=common.adam(1e-4, clip=1.0),
        )
        config.stages += ('domain_integrated',)
    return config


def _recognition_stage(config, variant):
    """The stage that gives the network of L_SI; it also sets the network's fields."""
    budget = {
        'data_seed': 0,
        'best': 'verification_accuracy',
        'evaluate_every': 500,
        'checkpoint_every': 100,
    }
    if variant in ('dlib', 'onnx'):
        config.cnnr = ConfigDict(
            {'kind': 'onnx', 'file': '', 'activations': ()}
            if variant == 'onnx'
            else {'kind': 'dlib', 'activations': ACTIVATIONS}
        )
        return schema.stage(
            'pretrained', steps=1, batch_size=16, optimizers={}, **budget
        )
    if variant == 'distilled':
        return common.taught_recogniser(config, steps=4_000)
    optimizer = common.adam(8e-4, clip=5.0)
    return schema.stage(
        'recognition',
        steps=1_600,
        batch_size=32,
        optimizers={'cnnr': optimizer, 'class_weights': optimizer},
        annealing={'base': 1500.0, 'gamma': 0.05},
        **budget,
    )


def _last_stage(update_rule, *, init=None, alpha=0.0, annealing=None, **optimizers):
    """A last stage; all of them start from the same CNNH and see the same batches."""
    return schema.stage(
        update_rule,
        steps=2_000,
        batch_size=16,
        optimizers={**optimizers, 'cnnh': common.adam(1e-3, CLIP)},
        init={'cnnh': 'hallucination'} | (init or {}),
        alpha=alpha,
        **(common.VIEWS if alpha else {}),
        annealing=annealing,
        data_seed=2,
        best='psnr',
        evaluate_every=500,
        checkpoint_every=100,
    )
