import numpy as np
import pytest

pytest.importorskip('scipy')

from benchmarks import soak

RNG = np.random.default_rng(0)
X = np.arange(500.0)


def test_a_slope_is_found():
    found = soak.trend(X, 100 + 0.02 * X + RNG.normal(size=500))
    assert found['significant']
    # Over the four fifths after the warm-up, of a mean of about 106.
    assert found['change'] == pytest.approx(0.02 * 399 / 106, rel=0.2)


@pytest.mark.parametrize('alike', [0.0, 0.9])
def test_noise_is_rarely_taken_for_a_slope(alike):
    found = 0
    for _ in range(200):
        noise = np.zeros(500)
        for i, value in enumerate(RNG.normal(size=499)):
            noise[i + 1] = alike * noise[i] + value
        found += soak.trend(X, 100 + noise)['significant']
    assert found < 0.15 * 200


def test_what_does_not_move_has_no_slope():
    assert not soak.trend(X, np.full(500, 42.0))['significant']


def test_the_warm_up_does_not_count():
    y = np.where(X < 90, 50.0, 100.0) + RNG.normal(size=500)
    assert not soak.trend(X, y)['significant']
