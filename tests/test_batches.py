"""Batches of few sizes, and networks that do not notice them."""

import jax
import numpy as np
import pytest

from sicnn_jax import batches, inference, models


def test_batches_of_inference_do_not_change_its_result(monkeypatch):
    cnnr = models.CNNR((2, 2, 2, 2), (1, 1, 1, 1), feature_dim=4)
    faces = np.random.default_rng(0).integers(0, 256, (5, 112, 96, 3), dtype=np.uint8)
    params = jax.jit(cnnr.init)(jax.random.key(0), np.float32(faces) / 255)['params']
    whole = inference.extract_features(cnnr, params, faces, mirror=True)
    monkeypatch.setattr(batches, '_BATCH', 2)
    parts = inference.extract_features(cnnr, params, faces, mirror=True)
    assert whole.shape == (5, 8)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    mirrored = inference.extract_features(cnnr, params, faces[:, :, ::-1])
    np.testing.assert_allclose(whole[:, 4:], mirrored, atol=1e-5)


@pytest.mark.parametrize(
    ('count', 'sizes', 'taken'),
    [
        (0, None, [1]),
        (5, None, [5]),
        (130, None, [64, 64, 64]),
        (0, (1, 2, 4, 8), [1]),
        (3, (1, 2, 4, 8), [4]),
        (21, (1, 2, 4, 8), [8, 8, 8]),
        (17, (1, 2, 4, 8), [8, 8, 1]),
    ],
)
def test_batches_are_of_few_sizes(count, sizes, taken):
    faces = np.arange(count * 2).reshape(count, 2)
    sizes_taken = []

    def double(batch):
        sizes_taken.append(len(batch))
        return 2 * batch

    doubled = batches.in_batches(double, faces, sizes)
    np.testing.assert_array_equal(doubled, 2 * faces)
    assert sizes_taken == taken
