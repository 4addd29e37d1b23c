"""Networks and settings that several experiments share."""

from typing import Any

from ml_collections import ConfigDict

from sicnn_jax.config import schema

# How the network of L_SI sees SR and HR: both are moved and blurred in the same way, so
# that CNNH does not learn a grid that pleases that network.
VIEWS = {'identity_shift': 3, 'identity_blur': 2.0}


def light_networks(config: ConfigDict) -> None:
    """Light networks for two CPU cores: many channels where there are few pixels.

    At 14×12, where a face takes shape, a channel costs a 64th of a channel at 112×96
    (docs/notes/light_networks.md).
    """
    config.cpu_devices = 2
    config.winograd = False
    config.cnnr.widths = (16, 16, 48, 96)
    config.cnnr.depths = (1, 1, 2, 1)
    config.cnnr.feature_dim = 128
    config.cnnr.dtype = 'float32'
    config.cnnh.width = (64, 64, 32, 16)
    config.cnnh.growth = (32, 32, 16, 8)
    config.cnnh.depth = (6, 4, 1)
    config.cnnh.deconv_width = (128, 64, 16)
    # Divisible by the stride, so that they overlap evenly.
    config.cnnh.deconv_kernels = (4, 4, 4)
    config.cnnh.final_depth = 1
    config.cnnh.reconstruction_gain = 0.1
    config.cnnh.bicubic_skip = True
    config.cnnh.dtype = 'float32'


def brief_evaluation(config: ConfigDict) -> None:
    """Logs and evaluates as suits minutes of training on two CPU cores."""
    config.log_every = 20
    config.evaluation.faces = 200
    config.evaluation.final_pairs = 2_000


def photographs(config: ConfigDict) -> None:
    """Real faces from shards, augmented on the device, for minutes on two CPU cores."""
    brief_evaluation(config)
    config.data.source = 'records'
    config.data.placement = 'device'
    config.data.shift = 2
    config.data.zoom = 0.04
    config.data.rotation = 4.0
    config.data.brightness = 0.08
    config.data.contrast = 0.15
    config.data.saturation = 0.2


def taught_recogniser(config: ConfigDict, steps: int) -> ConfigDict:
    """Makes CNNR wide enough to learn from a teacher.

    Returns:
      The stage in which it learns the teacher's features.
    """
    config.cnnr.widths = (16, 32, 96, 192)
    config.cnnr.depths = (1, 1, 2, 2)
    return schema.stage(
        'distillation',
        steps=steps,
        batch_size=32,
        optimizers={'cnnr': adam(1e-3, clip=1.0, warmup_steps=100, weight_decay=0.01)},
        data_seed=0,
        best='verification_accuracy',
        evaluate_every=500,
        checkpoint_every=100,
    )


def adam(learning_rate: float, clip: float, **settings: Any) -> ConfigDict:
    """Adam whose learning rate falls to zero along a cosine."""
    return schema.optimizer(
        'adam', learning_rate, schedule='cosine', clip=clip, **settings
    )
