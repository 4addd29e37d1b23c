"""Networks that several experiments have."""

from ml_collections import ConfigDict


def light_networks(config: ConfigDict) -> None:
    """Light networks, for two CPU cores: many channels where pixels are few.

    At 14×12, where a face is decided, a channel costs a 64th of what it costs at 112×96
    (docs/results.md).
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
