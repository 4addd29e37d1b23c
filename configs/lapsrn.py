"""LapSRN (Lai et al. 2017), a method that Tables 4 and 5 compare.

    --config=configs/lapsrn.py         the widths of its paper, the schedule of SICNN
    --config=configs/lapsrn.py:small   as configs/di.py:small
    --config=configs/lapsrn.py:light   as configs/di.py:light
    --config=configs/lapsrn.py:demo    as configs/di.py:demo
    --config=configs/lapsrn.py:real    as configs/di.py:real

A run of configs/di.py gives the recognition network and the faces, so that one network
measures all methods and nothing is trained again:

    python -m sicnn_jax.main --config=configs/lapsrn.py:demo \\
        --config.recognition.checkpoint=runs/di-demo/recognition \\
        --config.data.dir=runs/di-demo/data

docs/notes/narrow_networks.md has its results with narrow networks. It has not been
trained with light networks yet.
"""

from ml_collections import ConfigDict

from configs import di

VARIANTS = di.VARIANTS

WIDTHS = {'': 64, 'small': 32, 'light': 16, 'demo': 16, 'real': 16}
# Those of its 8× network; its 4× network has 10.
DEPTHS = {'': 5, 'small': 5, 'light': 3, 'demo': 3, 'real': 3}


def get_config(variant: str = '') -> ConfigDict:
    """The experiment; raises ValueError for an unknown variant."""
    config = di.start('configs/lapsrn.py', variant)
    config.stages = ('recognition', 'hallucination', 'lapsrn')
    config.cnnh = ConfigDict({'kind': 'lapsrn', 'width': WIDTHS[variant]})
    config.cnnh.depth = DEPTHS[variant]
    config.cnnh.init_std = 1.0
    config.cnnh.dtype = config.cnnr.dtype
    config.cnnh.param_dtype = 'float32'
    config.hallucination = di.second_stage(variant, 'pyramid')
    config.lapsrn = di.third_stage(variant, 'pyramid', init={'cnnh': 'hallucination'})
    return config
