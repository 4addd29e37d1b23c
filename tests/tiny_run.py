"""A tiny CNNH on disk, for the tests of what uses one."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from sicnn_jax import checkpoint, images, models

CNNH = {
    'width': 4,
    'growth': 2,
    'depth': 1,
    'deconv_width': 4,
    'deconv_kernels': [3, 3, 3],
    'final_depth': 1,
}
CNNR = {'widths': [4, 4, 4, 4], 'depths': [1, 1, 1, 1], 'feature_dim': 8}


def write_run(workdir, scale=8, degradation='bicubic', recognition=True):
    """The workdir of a run with untrained networks; the record and CNNH's params."""
    record = {
        'convention': images.CONVENTION,
        'scale': scale,
        'degradation': degradation,
        'models': {'cnnh': CNNH, 'cnnr': CNNR},
    }
    stages = ['recognition', 'sr_only', 'domain_integrated']
    config = {'stages': stages, 'data': {}, 'scale': scale}
    config |= {name: {'checkpoint': ''} for name in stages}
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / 'config.json').write_text(json.dumps(config))
    params = draw_params(models.cnnh_from(record), models.LR_SHAPES[scale])
    checkpoint.save_networks(workdir / 'domain_integrated', {'cnnh': params}, record)
    if recognition:
        cnnr = draw_params(models.cnnr_from(record), (images.HEIGHT, images.WIDTH))
        checkpoint.save_networks(workdir / 'recognition', {'cnnr': cnnr}, record)
    return record, params


def draw_params(model, shape):
    """Parameters without compiling what would initialise them."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape, 3)))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(leaf.dtype), shapes['params']
    )
