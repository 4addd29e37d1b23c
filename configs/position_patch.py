"""Position patches (Ma et al. 2010), a method that Tables 4 and 5 compare.

    --config=configs/position_patch.py         a thousand training faces
    --config=configs/position_patch.py:small   the same on faces of configs/di.py:small
    --config=configs/position_patch.py:light   the same on faces of configs/di.py:light
    --config=configs/position_patch.py:demo    the same on faces of configs/di.py:demo
    --config=configs/position_patch.py:real    the same on faces of configs/di.py:real

It is not trained: its stage takes one step. A run of configs/di.py gives the
recognition network and the faces:

    python -m sicnn_jax.main --config=configs/position_patch.py:demo \\
        --config.recognition.checkpoint=runs/di-demo/recognition \\
        --config.data.dir=runs/di-demo/data

docs/notes/narrow_networks.md has its results with narrow networks. It has not been
trained with light networks yet.
"""

from ml_collections import ConfigDict

from configs import di

VARIANTS = di.VARIANTS


def get_config(variant: str = '') -> ConfigDict:
    """The experiment; raises ValueError for an unknown variant."""
    config = di.start('configs/position_patch.py', variant)
    config.stages = ('recognition', 'ma')
    # Pixels of the input. This and the next are from docs/decisions.md.
    config.cnnh = ConfigDict({'kind': 'position_patch', 'patch': 4, 'overlap': 2})
    config.cnnh.num_faces = 1_000
    config.cnnh.regularisation = 1e-4
    # The batch is only read; log, evaluation and checkpoint follow the one step.
    config.ma = di.second_stage(
        variant, 'fit', steps=1, optimizers={}, evaluate_every=0, checkpoint_every=0
    )
    return config
