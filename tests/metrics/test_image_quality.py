"""PSNR and SSIM against their definitions written out."""

import numpy as np
import pytest

from sicnn_jax.metrics import luminance, psnr, ssim


def _images(seed=0, n=3, height=20, width=17):
    """Smooth random images and noisy copies."""
    rng = np.random.default_rng(seed)
    hr = rng.integers(40, 216, (n, height // 4 + 1, width // 4 + 1, 3))
    hr = hr.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    sr = np.clip(hr + np.rint(rng.normal(0, 12, hr.shape)), 0, 255)
    return sr.astype(np.uint8), hr.astype(np.uint8)


def _reference_ssim(x, y):
    """Wang et al. (2004), one window at a time, for one channel."""
    offsets = np.arange(11) - 5
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a = x[top : top + 11, left : left + 11].astype(np.float64)
            b = y[top : top + 11, left : left + 11].astype(np.float64)
            mean_a, mean_b = (kernel * a).sum(), (kernel * b).sum()
            variance_a = (kernel * (a - mean_a) ** 2).sum()
            variance_b = (kernel * (b - mean_b) ** 2).sum()
            covariance = (kernel * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * covariance + c2)
                / (mean_a**2 + mean_b**2 + c1)
                / (variance_a + variance_b + c2)
            )
    return np.mean(values)


def test_psnr_of_rgb_and_of_luminance():
    sr, hr = _images()
    for a, b in ((sr, hr), (luminance(sr), luminance(hr))):
        errors = [
            np.mean((x.astype(np.float64) - y) ** 2) for x, y in zip(a, b, strict=True)
        ]
        expected = 10 * np.log10(255.0**2 / np.array(errors))
        found = psnr(a, b)
        assert found.shape == (3,) and found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_ssim_of_rgb_and_of_luminance():
    sr, hr = _images()
    found = ssim(sr, hr)
    assert found.shape == (3,) and found.dtype == np.float64
    expected = [
        np.mean([_reference_ssim(a[..., c], b[..., c]) for c in range(3)])
        for a, b in zip(sr, hr, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    sr, hr = luminance(sr), luminance(hr)
    expected = [_reference_ssim(a, b) for a, b in zip(sr, hr, strict=True)]
    np.testing.assert_allclose(ssim(sr, hr), expected, rtol=1e-10)


def test_by_hand():
    hr = np.full((1, 12, 12, 3), 100, np.uint8)
    np.testing.assert_allclose(psnr(hr + 1, hr), 10 * np.log10(255**2), rtol=1e-12)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    np.testing.assert_allclose(ssim(hr + 10, hr), expected, rtol=1e-6)


@pytest.mark.filterwarnings('error')
def test_equal_images():
    _, hr = _images()
    assert np.all(psnr(hr, hr) == np.inf)
    np.testing.assert_allclose(ssim(hr, hr), 1.0)


def test_order_is_kept_and_images_do_not_mix():
    sr, hr = _images(n=9)
    for metric in (psnr, ssim):
        each = [metric(sr[i : i + 1], hr[i : i + 1])[0] for i in range(9)]
        np.testing.assert_array_equal(metric(sr, hr), each)
        assert len(set(each)) == 9
        assert metric(sr[:0], hr[:0]).shape == (0,)


def test_luminance_by_hand():
    colours = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    found = luminance(np.array(colours, np.uint8).reshape(1, 1, 5, 3))
    assert found.shape == (1, 1, 5) and found.dtype == np.float64
    np.testing.assert_allclose(found[0, 0], [16, 235, 81.481, 144.553, 40.966])


@pytest.mark.parametrize('metric', [psnr, ssim, lambda sr, hr: luminance(sr)])
def test_wrong_images_are_refused(metric):
    _, hr = _images()
    with pytest.raises(ValueError, match=r'is float32.*uint8.*round'):
        metric(hr.astype(np.float32), hr)
    with pytest.raises(ValueError, match=r'is float64.*uint8.*round'):
        metric(hr.astype(np.float64), hr)
    with pytest.raises(ValueError, match='is float64'):
        metric(hr[0].astype(np.float64), hr)
    with pytest.raises(ValueError, match=r'\[n, height, width, 3\]'):
        metric(hr[0], hr[0])
    with pytest.raises(ValueError, match=r'\[n, height, width, 3\]'):
        metric(hr[..., :1], hr[..., :1])


def test_images_of_different_shapes_and_too_small_ones_are_refused():
    sr, hr = _images()
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match=r'\(2, 20, 17, 3\)'):
            metric(sr[:2], hr)
    with pytest.raises(ValueError, match='11×11'):
        ssim(sr[:, :10], hr[:, :10])
