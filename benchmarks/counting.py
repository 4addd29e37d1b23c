"""Counts multiply-adds of the paper's networks and training steps, per face or pair.

    python -m benchmarks.counting

tests/counting.py does the counting, and tests compare it with the paper's tables.
"""

from configs import di
from sicnn_jax import models
from tests.counting import forward, iteration, multiply_adds


def main():
    # In bfloat16, convolutions are direct on every backend.
    config = di.get_config()
    for name, model in (
        ('CNNR', models.CNNR(dtype='bfloat16')),
        ('CNNH, 8×', models.CNNH(dtype='bfloat16')),
        ('CNNH, 4×', models.CNNH(scale=4, dtype='bfloat16')),
    ):
        function, shapes = forward(model)
        padded, unpadded = (
            multiply_adds(function, *shapes, padding=padding)
            for padding in (True, False)
        )
        print(
            f'{name}: {padded / 1e9:.3f} G multiply-adds forward, '
            f'{unpadded / 1e9:.3f} G without those by padding'
        )
    for stage in config.stages:
        function, shapes = iteration(config, stage)
        flops = 2 * multiply_adds(function, *shapes)
        print(f'{stage}: {flops / 1e9:.1f} GFLOP per iteration and face')


if __name__ == '__main__':
    main()
