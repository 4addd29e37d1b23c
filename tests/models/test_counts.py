"""Multiply-adds: from Table 1 and Fig. 2a by hand, from our programs, from XLA."""

import jax
import pytest

from configs import di
from sicnn_jax.models import CNNH, CNNR
from tests import counting

# (height, width of the output, side of the kernel, channels in, channels out, layers)
_CNNR = (
    (110, 94, 3, 3, 64, 1),
    (108, 92, 3, 64, 64, 1),
    (54, 46, 3, 64, 64, 2),
    (52, 44, 3, 64, 128, 1),
    (26, 22, 3, 128, 128, 4),
    (24, 20, 3, 128, 256, 1),
    (12, 10, 3, 256, 256, 10),
    (10, 8, 3, 256, 512, 1),
    (5, 4, 3, 512, 512, 6),
    (1, 1, 1, 5 * 4 * 512, 512, 1),
)


def _dense_block(height, width, layers):
    return [(height, width, 3, 64 + 32 * layer, 32, 1) for layer in range(layers)]


def _stage(height, width, kernel):
    # A transposed convolution multiplies each input by the whole kernel.
    return [
        *_dense_block(height, width, 6),
        (height, width, kernel, 64 + 6 * 32, 256, 1),
        (2 * height, 2 * width, 1, 256, 64, 1),
    ]


_CNNH = [
    (14, 12, 3, 3, 64, 1),
    *_stage(14, 12, 3),
    *_stage(28, 24, 5),
    *_stage(56, 48, 5),
    *_dense_block(112, 96, 2),
    (112, 96, 5, 128, 3, 1),
]

# In bfloat16 no convolution is by Winograd's way, which multiplies less.
_NETWORKS = (
    (CNNR(dtype='bfloat16'), _CNNR, 2.305),
    (CNNH(dtype='bfloat16'), _CNNH, 7.31),
)


def _by_hand(layers):
    return sum(h * w * k**2 * c * d * count for h, w, k, c, d, count in layers)


@pytest.mark.parametrize('model, layers, billions', _NETWORKS)
def test_networks_multiply_as_often_as_the_tables_say(model, layers, billions):
    function, shapes = counting.forward(model)
    assert counting.multiply_adds(function, *shapes) == _by_hand(layers)
    assert _by_hand(layers) / 1e9 == pytest.approx(billions, abs=0.005)


@pytest.mark.parametrize('model, layers, billions', _NETWORKS)
def test_xla_counts_the_same_without_padding(model, layers, billions):
    function, shapes = counting.forward(model)
    counted = counting.multiply_adds(function, *shapes, padding=False)
    xla = jax.jit(function).lower(*shapes).cost_analysis()['flops']
    # XLA counts activations and pooling too.
    assert 2 * counted < xla < 1.011 * 2 * counted


def test_a_domain_integrated_iteration_takes_100_gflop_a_pair():
    function, shapes = counting.iteration(di.get_config(), 'domain_integrated')
    flops = 2 * counting.multiply_adds(function, *shapes)
    # CNNR: three passes over two faces; then SR forward and back, HR forward. CNNH:
    # forward, and again three passes (XLA merges the two forward passes).
    by_hand = 2 * ((6 + 3) * _by_hand(_CNNR) + 4 * _by_hand(_CNNH))
    # Against that: class weights; no gradient by the faces of CNNR's update.
    assert flops == pytest.approx(by_hand, rel=0.01)
