"""Who lowers L_SI."""

import functools

import jax
import numpy as np
import pytest

from benchmarks.studies import falls
from sicnn_jax.losses import super_identity_loss
from sicnn_jax.models import CNNH, CNNR

CNNR_ = CNNR(widths=(2, 2, 3, 4), depths=(0, 0, 0, 0), feature_dim=8, dtype='float32')
CNNH_ = CNNH(width=3, growth=2, depth=1, deconv_width=3, dtype='float32')
RNG = np.random.default_rng(0)
HR = RNG.integers(0, 256, (5, 112, 96, 3), np.uint8)
LR = RNG.integers(0, 256, (5, 14, 12, 3), np.uint8)


@functools.cache
def initialised(network, seed):
    faces = np.zeros((1, *(HR if network is CNNR_ else LR).shape[1:]), np.float32)
    return network, jax.jit(network.init)(jax.random.key(seed), faces)['params']


def pair(network, before, after):
    return {
        'before': initialised(network, before),
        'after': initialised(network, after),
    }


def test_parts_are_those_of_both_networks_and_sum_to_the_fall():
    found = falls.measure(HR, LR, pair(CNNR_, 0, 1), pair(CNNH_, 0, 1))
    assert found['cnnr'] + found['cnnh'] == pytest.approx(
        found['after'] - found['before'], abs=1e-6
    )
    assert found['cnnr'] and found['cnnh']
    assert -1 <= found['cosine'] < 1


def test_a_network_that_did_not_change_has_no_part():
    found = falls.measure(HR, LR, pair(CNNR_, 0, 0), pair(CNNH_, 0, 1))
    assert found['cnnr'] == pytest.approx(0, abs=1e-6)
    assert found['cosine'] == pytest.approx(1, abs=1e-5)
    assert found['gradient'] == pytest.approx(1, abs=1e-5)
    found = falls.measure(HR, LR, pair(CNNR_, 0, 1), pair(CNNH_, 0, 0))
    assert found['cnnh'] == pytest.approx(0, abs=1e-6)


def test_gradients_are_those_of_finite_differences():
    cnnr, params = initialised(CNNR_, 0)
    sr = RNG.integers(0, 256, HR.shape, np.uint8)
    gradient = falls._gradients(cnnr, params, sr, HR)
    # The steepest, since differences of float32 are coarse.
    direction = np.sign(gradient[0]).reshape(HR.shape[1:])

    def loss(levels):
        features = [
            cnnr.apply({'params': params}, (np.float32(faces) - 127.5) / 128)
            for faces in (levels[None], HR[:1])
        ]
        return float(super_identity_loss(*features))

    step = 0.5
    rise = loss(sr[0] + step * direction) - loss(sr[0] - step * direction)
    expected = rise / (2 * step / 128)
    assert np.abs(gradient[0]).sum() == pytest.approx(expected, rel=0.05)


def test_nothing_trained_is_said(tmp_path, capsys):
    assert falls.main([f'--cache={tmp_path}']) == 0
    assert 'sicnn_jax.reproduce --table=3' in capsys.readouterr().out
