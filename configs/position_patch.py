"""Position patches (Ma et al. 2010), a method that Tables 4 and 5 compare.

    --config=configs/position_patch.py         a thousand training faces
    --config=configs/position_patch.py:small   the same, faces of configs/di.py:small
    --config=configs/position_patch.py:light   the same, faces of configs/di.py:light
    --config=configs/position_patch.py:demo    the same, faces of configs/di.py:demo

It is not trained: its stage takes one step. A run of configs/di.py gives the
recognition network and the faces:

    python -m sicnn_jax.main --config=configs/position_patch.py:demo \\
        --config.recognition.checkpoint=runs/di-demo/recognition \\
        --config.data.dir=runs/di-demo/data
"""

from ml_collections import ConfigDict

from configs import common, compared

VARIANTS = compared.VARIANTS


def get_config(variant: str = '') -> ConfigDict:
    """The experiment; raises ValueError for an unknown variant."""
    config = compared.start('configs/position_patch.py', variant, 'position_patch')
    # Pixels of the input. This and the next are from docs/decisions.md.
    config.cnnh.patch = 4
    config.cnnh.overlap = 2
    config.cnnh.num_faces = 1_000
    config.cnnh.regularisation = 1e-4
    # The batch is only read; log, evaluation and checkpoint follow the one step.
    config.ma = common.stage(
        'fit',
        steps=1,
        batch_size=config.hallucination.batch_size,
        optimizers={},
        data_seed=config.hallucination.data_seed,
        best='psnr',
        evaluate_every=0,
        checkpoint_every=0,
    )
    del config.hallucination, config.sr_only
    config.stages = ('recognition', 'ma')
    return config
