"""UR-DGN (Yu & Porikli 2016) and UR-DGN* (Sec. 4.4), compared in Tables 4 and 5.

    --config=configs/ur_dgn.py         UR-DGN: L_SR and the adversarial loss
    --config=configs/ur_dgn.py:small   as configs/di.py:small
    --config=configs/ur_dgn.py:light   as configs/di.py:light
    --config=configs/ur_dgn.py:demo    as configs/di.py:demo
    --config=configs/ur_dgn.py:real    as configs/di.py:real

With the perceptual loss through CNNR, each becomes UR-DGN*: `:perceptual`,
`:small_perceptual` and so on. A run of configs/di.py gives the recognition network,
which UR-DGN* is trained against, and the faces:

    python -m sicnn_jax.main --config=configs/ur_dgn.py:demo_perceptual \\
        --config.recognition.checkpoint=runs/di-demo/recognition \\
        --config.data.dir=runs/di-demo/data

docs/notes/narrow_networks.md has its results with narrow networks. It has not been
trained with light networks yet.
"""

from ml_collections import ConfigDict

from configs import di
from sicnn_jax.config import schema
from sicnn_jax.template import HEIGHT, WIDTH

_PERCEPTUAL = 'perceptual'
VARIANTS = (
    *di.VARIANTS,
    *(f'{variant}_{_PERCEPTUAL}'.lstrip('_') for variant in di.VARIANTS),
)

# Weights relative to a mean over pixels; L_SR is a sum: see docs/decisions.md.
_VALUES = HEIGHT * WIDTH * 3
ADVERSARIAL_WEIGHT = 0.01 * _VALUES
PERCEPTUAL_WEIGHT = 0.1 * _VALUES


# Widths of the generator and of the discriminator.
WIDTHS = {
    '': ((256, 128, 64), (32, 64, 128, 256)),
    'small': ((128, 64, 32), (16, 32, 64, 128)),
    'light': ((48, 32, 16), (8, 16, 32, 64)),
    'demo': ((48, 32, 16), (8, 16, 32, 64)),
    'real': ((48, 32, 16), (8, 16, 32, 64)),
}


def get_config(variant: str = '') -> ConfigDict:
    """The experiment; raises ValueError for an unknown variant."""
    size = variant.removesuffix(_PERCEPTUAL).rstrip('_')
    starred = variant.endswith(_PERCEPTUAL)
    method = 'ur_dgn_perceptual' if starred else 'ur_dgn'
    config = di.start('configs/ur_dgn.py', size)
    config.stages = ('recognition', 'hallucination', method)
    config.discriminator = schema.discriminator()
    config.discriminator.widths = WIDTHS[size][1]
    config.discriminator.dtype = config.cnnr.dtype
    config.cnnh = ConfigDict({'kind': 'ur_dgn', 'widths': WIDTHS[size][0]})
    config.cnnh.depth = 1
    config.cnnh.kernel_size = 5
    config.cnnh.init_std = 1.0
    config.cnnh.dtype = config.cnnr.dtype
    config.cnnh.param_dtype = 'float32'
    weights = {
        'adversarial_weight': ADVERSARIAL_WEIGHT,
        'perceptual_weight': PERCEPTUAL_WEIGHT if starred else 0.0,
    }
    cnnr = {'cnnr': 'recognition'} if starred else {}
    config.hallucination = di.second_stage(size, 'adversarial', init=cnnr, **weights)
    config[method] = di.third_stage(
        size,
        'adversarial',
        init=cnnr | {'cnnh': 'hallucination', 'discriminator': 'hallucination'},
        **weights,
    )
    for name in ('hallucination', method):
        config[name].optimizer.discriminator = schema.optimizer(
            'adam', 2e-4, schedule='constant', clip=5.0
        )
    return config
