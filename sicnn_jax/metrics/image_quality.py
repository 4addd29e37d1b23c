"""PSNR and SSIM (Sec. 4.2) in float64, on RGB or on luminance."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Float64, UInt8

_PEAK = 255
_WINDOW, _RADIUS, _SIGMA = 11, 5, 1.5
# K₁ and K₂ of Wang et al., times the peak, squared.
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


def psnr(
    sr: UInt8[ArrayLike, 'n height width 3'] | Float64[ArrayLike, 'n height width'],
    hr: UInt8[ArrayLike, 'n height width 3'] | Float64[ArrayLike, 'n height width'],
) -> Float64[np.ndarray, ' n']:
    """Peak signal-to-noise ratio of each image, 10 log₁₀(255² / mean squared error).

    Over all pixels and channels together, with a peak of 255.

    Args:
      sr: RGB; or both from `luminance`.
      hr: the originals, in the same form.

    Returns:
      Decibels; ∞ where the images are equal.

    Raises:
      ValueError: the images are of another type or shape, or differ in shape.
    """
    sr, hr = _check(sr, hr)
    # An infinite ratio is the definition's answer to equal images, not an accident.
    with np.errstate(divide='ignore'):
        ratios = [
            10 * np.log10(_PEAK**2 / np.mean((a.astype(float) - b) ** 2))
            for a, b in zip(sr, hr, strict=True)
        ]
    return np.array(ratios, np.float64)


def ssim(
    sr: UInt8[ArrayLike, 'n height width 3'] | Float64[ArrayLike, 'n height width'],
    hr: UInt8[ArrayLike, 'n height width 3'] | Float64[ArrayLike, 'n height width'],
) -> Float64[np.ndarray, ' n']:
    """Structural similarity of each image (Wang et al., TIP 2004).

    It has the paper's 11×11 Gaussian window (σ = 1.5) and population covariance, covers
    the pixels whose window lies inside the image, and is the mean over the channels,
    with a peak of 255. The filters release the interpreter lock, so with one thread per
    core the time is nearly divided by the number of cores.

    Args:
      sr: RGB; or both from `luminance`. Height and width at least 11.
      hr: the originals, in the same form.

    Returns:
      In [−1, 1]; 1 where the images are equal.

    Raises:
      ValueError: the images are of another type or shape, or differ in shape.
    """
    sr, hr = _check(sr, hr)
    if min(sr.shape[1:3]) < _WINDOW:
        raise ValueError(
            f'SSIM has a window of {_WINDOW}×{_WINDOW} pixels, but the images have '
            f'only {sr.shape[1]}×{sr.shape[2]}.'
        )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.asarray(list(pool.map(_ssim, sr, hr)), np.float64)


def luminance(
    images: UInt8[ArrayLike, 'n height width 3'],
) -> Float64[np.ndarray, 'n height width']:
    """The Y of Y'CbCr (ITU-R BT.601) of RGB images, as in MATLAB's rgb2ycbcr.

    Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, not rounded.

    Args:
      images: RGB.

    Returns:
      In [16, 235]. `psnr` and `ssim` accept it, still with a peak of 255.

    Raises:
      ValueError: the images are of another type or shape.
    """
    images = np.asarray(images)
    _check_rgb('images', images)
    return 16.0 + images @ np.array([65.481, 128.553, 24.966]) / 255.0


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Equation 13 of Wang et al., and its mean over the image."""
    a, b = a.astype(float), b.astype(float)
    mean_a, mean_b = _blur(a), _blur(b)
    # Var a + Var b and Cov(a, b), from their second moments.
    variance = _blur(a * a + b * b) - mean_a**2 - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    index = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    index /= (mean_a**2 + mean_b**2 + _C1) * (variance + _C2)
    return float(index[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS].mean())


def _blur(image):
    return scipy.ndimage.gaussian_filter(image, _SIGMA, radius=_RADIUS, axes=(0, 1))


def _check(sr: ArrayLike, hr: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    sr, hr = np.asarray(sr), np.asarray(hr)
    for name, images in (('sr', sr), ('hr', hr)):
        is_luminance = images.dtype == np.float64 and images.ndim == 3
        # One RGB image without a batch axis also has rank 3.
        if not is_luminance or images.shape[2] == 3:
            _check_rgb(name, images)
    if sr.shape != hr.shape:
        raise ValueError(f'sr has the shape {sr.shape}, hr {hr.shape}.')
    return sr, hr


def _check_rgb(name: str, images: np.ndarray) -> None:
    if images.dtype != np.uint8:
        raise ValueError(
            f'{name} is {images.dtype}, and should be uint8: scale it to 0 to 255 '
            f'(128 x + 127.5 for the output of the networks), round and clip it, as in '
            f'an image file.'
        )
    if images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f'{name} has the shape {images.shape}, and should have '
            f'[n, height, width, 3].'
        )
