"""dlib's network: its file, its arithmetic, the chip that it looks at."""

import jax
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from sicnn_jax import images, losses
from sicnn_jax.data import align
from sicnn_jax.models import DlibResNet, dlib_resnet

# Convolutions in the order of the file: side, channels, features.
LAYERS = [
    (7, 3, 32),
    *[(3, 32, 32)] * 6,
    *[(3, 32, 64), *[(3, 64, 64)] * 7],
    *[(3, 64, 128), *[(3, 128, 128)] * 5],
    *[(3, 128, 256), *[(3, 256, 256)] * 7],
]
# Of the residual blocks that halve the sides, by their number.
HALVING = {3, 7, 10, 13}


def _integer(value):
    """As dlib writes it: the number of bytes, and these, the lowest first."""
    data = value.to_bytes(max(1, (value.bit_length() + 7) // 8), 'little')
    return bytes([len(data)]) + data


def _tensor(array):
    shape = (*array.shape, 1, 1, 1)[:4]
    return b'\1\2' + b''.join(map(_integer, shape)) + array.astype('<f4').tobytes()


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A file of random weights, and these: (kernel OIHW, bias, gain, shift) and fc."""
    rng = np.random.default_rng(0)
    layers, data = [], b'\1\1\1\x0dloss_metric_\0\1\2'
    for side, channels, features in LAYERS:
        kernel = rng.normal(
            0, (side**2 * channels) ** -0.5, (features, channels, side, side)
        )
        bias, gain, shift = rng.normal(0, 0.1, (3, features))
        layers.append((kernel, bias, 1 + gain, shift))
        data += (
            b'\1\5con_4' + _tensor(np.concatenate([kernel.ravel(), bias])) + b'\0' * 9
        )
        data += b'\1\7affine_' + _tensor(np.concatenate([1 + gain, shift])) + b'\0' * 5
    fc = rng.normal(0, 0.1, (256, 128))
    data += b'\1\4fc_2' + _integer(128) + _integer(256) + _tensor(fc)
    path = tmp_path_factory.mktemp('dlib') / 'network.dat'
    path.write_bytes(data)
    return path, layers, fc


def _reference(levels, layers, fc):
    """The network in float64, as its definition says: NCHW, no layer taken in.

    Returns the feature, and what comes out of each block.
    """
    layers, blocks = iter(layers), []

    def convolve(x, stride):
        kernel, bias, gain, shift = next(layers)
        side = kernel.shape[-1]
        if stride == 1:
            x = np.pad(x, [(0, 0), (side // 2,) * 2, (side // 2,) * 2])
        windows = sliding_window_view(x, (side, side), (1, 2))[:, ::stride, ::stride]
        y = np.einsum('chwij,ocij->ohw', windows, kernel, optimize=True)
        y = y + bias[:, None, None]
        return y * gain[:, None, None] + shift[:, None, None]

    def pool(x, side, function):
        windows = sliding_window_view(x, (side, side), (1, 2))[:, ::2, ::2]
        return function(windows, axis=(3, 4))

    def add(x, y):
        total = np.zeros(np.maximum(x.shape, y.shape))
        for each in (x, y):
            total[tuple(map(slice, each.shape))] += each
        return total

    mean = np.array([122.782, 117.001, 104.298])
    x = ((levels - mean) / 256).transpose(2, 0, 1)
    x = pool(np.maximum(convolve(x, 2), 0), 3, np.max)
    for block in range(14):
        halves = block in HALVING
        y = np.maximum(convolve(x, 2 if halves else 1), 0)
        y = convolve(y, 1)
        x = np.maximum(add(pool(x, 2, np.mean) if halves else x, y), 0)
        blocks.append(x)
    return x.mean((1, 2)) @ fc, blocks


def test_the_network_equals_a_reference_in_float64(written):
    path, layers, fc = written
    levels = np.random.default_rng(1).uniform(0, 255, (2, 150, 150, 3))
    found = jax.jit(dlib_resnet.describe_chips)(dlib_resnet.read_layers(path), levels)
    for each, chip in zip(found, levels, strict=True):
        expected, _ = _reference(chip, layers, fc)
        np.testing.assert_allclose(each, expected, atol=1e-5 * np.abs(expected).max())


def test_a_chip_is_the_warped_face():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (14, 12, 3), np.uint8)
    face = np.asarray(images.enlarge(coarse[None]))[0]
    chip = np.asarray(dlib_resnet.make_chips(face[None].astype(np.float32)))[0]
    expected = align.warp(face, dlib_resnet.CHIP, (150, 150))
    # Cubic convolution and cubic splines differ a little between pixels.
    assert np.abs(chip - expected).mean() < 1


def test_features_are_from_their_mean_on(written, monkeypatch):
    monkeypatch.setattr(dlib_resnet, 'find_file', lambda: written[0])
    # What the network makes of chips is compared above; here any function will do.
    monkeypatch.setattr(
        dlib_resnet, 'describe_chips', lambda _, chips: chips[:, 0, :128, 0] + 50
    )
    faces = np.random.default_rng(0).integers(0, 256, (6, 112, 96, 3), np.uint8)
    network = DlibResNet()
    params = network.fit(faces)
    features = network.apply({'params': params}, images.to_float(faces))
    with pytest.raises(TypeError, match='given uint8; expected floats'):
        network.apply({'params': params}, faces)
    assert features.shape == (6, network.feature_dim)
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-3)
    assert np.abs(features).max() > 1


def test_activations_are_those_of_groups_in_units_of_their_spread(written, monkeypatch):
    path, layers, fc = written
    monkeypatch.setattr(dlib_resnet, 'find_file', lambda: path)
    monkeypatch.setattr(dlib_resnet, 'describe_faces', lambda *_: np.zeros((2, 128)))
    levels = np.random.default_rng(0).integers(0, 256, (2, 112, 96, 3), np.uint8)
    network = DlibResNet(activations=(2, 5))
    faces = images.to_float(levels)
    found = jax.jit(network.activate)(network.fit(levels), faces)
    chips = np.asarray(dlib_resnet.make_chips(levels.astype(np.float32)))
    _, blocks = zip(*[_reference(chip, layers, fc) for chip in chips], strict=True)
    for group, last in zip(found, (6, 13), strict=True):
        np.testing.assert_allclose(np.var(group, axis=0).mean(), 1, rtol=1e-4)
        expected = np.stack([each[last] for each in blocks]).transpose(0, 2, 3, 1)
        expected /= np.sqrt(expected.var(0).mean())
        np.testing.assert_allclose(group, expected, atol=1e-3)
    nothing = DlibResNet().activate(network.fit(levels), faces)
    with pytest.raises(ValueError, match='has nothing to compare'):
        losses.perceptual_loss(nothing, nothing)


@pytest.mark.parametrize('kept', (0, 40, 5_000_000))
def test_another_file_is_named(kept, written, tmp_path):
    path = tmp_path / 'other.dat'
    path.write_bytes(written[0].read_bytes()[:kept])
    with pytest.raises(ValueError, match='is damaged or of another network'):
        dlib_resnet.read_layers(path)


def test_it_equals_dlib():
    dlib = pytest.importorskip('dlib')
    try:
        path = dlib_resnet.find_file()
    except ValueError as error:
        pytest.skip(str(error))
    chips = np.random.default_rng(0).integers(0, 256, (2, 150, 150, 3), np.uint8)
    network = dlib.face_recognition_model_v1(str(path))
    expected = np.array([network.compute_face_descriptor(chip) for chip in chips])
    found = dlib_resnet.describe_chips(dlib_resnet.read_layers(), chips)
    np.testing.assert_allclose(found, expected, atol=1e-5)
