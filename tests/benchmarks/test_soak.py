import json

import numpy as np
import pytest

pytest.importorskip('scipy')

from benchmarks.drills import soak

X = np.arange(900.0)


def noise(seed, alike=0.0):
    """Values of which each has a share of the one before."""
    rng = np.random.default_rng(seed)
    values = np.zeros(len(X))
    for i, value in enumerate(rng.normal(size=len(X) - 1)):
        values[i + 1] = alike * values[i] + value
    return values


def test_a_slope_is_found():
    found = soak.trend(X, 100 + 0.02 * X + noise(0))
    assert found['significant']
    # From the middle of the first of ten parts of what is left to that of the last, of
    # a mean of about 111.
    assert found['change'] == pytest.approx(0.02 * 648 / 111, rel=0.1)


@pytest.mark.parametrize('alike', [0.0, 0.9, 0.98])
def test_noise_is_rarely_taken_for_a_slope(alike):
    """Also a slow wobble below noise, as another program's load makes."""
    found = sum(
        soak.trend(X, 100 + noise(i, alike) + noise(1000 + i))['significant']
        for i in range(200)
    )
    assert found < 0.25 * 200


def test_what_does_not_move_has_no_slope():
    assert not soak.trend(X, np.full(len(X), 42.0))['significant']


def test_the_warm_up_does_not_count():
    y = np.where(X < 170, 50.0, 100.0) + noise(0)
    assert not soak.trend(X, y)['significant']


def test_windows_of_evaluations_and_after_them_are_left_out(tmp_path):
    lines = [
        {'step': step, 'images_per_second': 4.0 * step}
        | ({'identity_similarity': 0.5} if step == 3 else {})
        for step in (1, 2, 3, 4, 5)
    ]
    (tmp_path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    found = soak.step_times(tmp_path, batch_size=8)
    assert found == [(1, 2.0), (2, 1.0), (5, 0.4)]
