"""Networks of others in the place of CNNR: what they are given, and what is noticed."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from sicnn_jax import checkpoint, images, inference, models
from sicnn_jax.config import check, schema
from sicnn_jax.errors import CheckpointError
from sicnn_jax.evaluation.judge import load_judge
from tests.onnx.onnx_files import Network, normal

FACES = np.random.default_rng(0).integers(0, 256, (5, 112, 96, 3), np.uint8)


def small_network(path, size=(112, 96), last=6):
    """A convolution over the whole face, and a dense layer."""
    network = Network()
    y = network.conv('x', 3, 4, 16, strides=[16, 16], bias=True)
    y = network.add('PRelu', y, normal(4, 1, 1))
    length = 4 * (size[0] // 16) * (size[1] // 16)
    y = network.add('Flatten', y)
    network.add('Gemm', y, normal(length, last, scale=0.1), normal(last))
    return network.save(path, ['n', 3, *size])


def recogniser(path, **fields):
    described = models.describe_file({'kind': 'onnx', 'file': str(path), **fields})
    return models.cnnr_from({'models': {'cnnr': described}})


@pytest.mark.parametrize(
    'size, settings',
    (
        ((112, 96), {'mean': 127.5, 'scale': 1 / 128}),
        ((112, 112), {'colour_order': 'BGR', 'mean': [1.0, 20.0, 90.0]}),
    ),
)
def test_it_sees_what_it_sees_as_a_judge(size, settings, tmp_path):
    pytest.importorskip('onnxruntime')
    path = small_network(tmp_path / 'network.onnx', size)
    (tmp_path / 'network.json').write_text(json.dumps(settings))
    network = recogniser(path)
    assert network.feature_dim == 6
    params = network.fit(FACES)
    with pytest.raises(TypeError, match='given uint8; expected floats'):
        network.apply({'params': params}, FACES)
    found = inference.extract_features(network, params, FACES)
    expected = load_judge(path).describe(FACES)[0]
    atol = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=atol)


def test_faces_of_another_size_are_resized(tmp_path):
    """A judge rounds to levels and cuts off overshoots, which gradients would not."""
    pytest.importorskip('onnxruntime')
    smooth = np.asarray(images.enlarge(FACES[:, ::8, ::8]))
    path = small_network(tmp_path / 'network.onnx', (160, 160))
    network = recogniser(path)
    found = inference.extract_features(network, network.fit(smooth), smooth)
    expected = load_judge(path).describe(smooth)[0]
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())


def test_features_may_be_from_their_mean_on(tmp_path):
    path = small_network(tmp_path / 'network.onnx')
    network = recogniser(path, centred=True)
    params = network.fit(FACES)
    features = inference.extract_features(network, params, FACES)
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-5)
    plain = inference.extract_features(recogniser(path), params | {'centre': 0}, FACES)
    np.testing.assert_allclose(plain.mean(0), params['centre'], rtol=1e-4)


def test_inner_activations_are_named(tmp_path):
    path = small_network(tmp_path / 'network.onnx')
    network = recogniser(path, activations=['conv_0', 'prelu_1'])
    params = network.fit(FACES)
    faces = images.to_float(FACES)
    before, after = network.activate(params, faces)
    assert before.shape == (5, 4, 7, 6)
    slopes = params['arrays'][2]
    expected = np.where(before > 0, before, slopes * before)
    np.testing.assert_allclose(after, expected, rtol=1e-5)
    assert recogniser(path).activate(params, faces) == ()


def test_every_array_has_a_gradient(tmp_path):
    network = recogniser(small_network(tmp_path / 'network.onnx'))
    params = network.fit(FACES)
    faces = images.to_float(FACES)

    def loss(params):
        return (network.apply({'params': params}, faces) ** 2).mean()

    gradients = jax.grad(loss)(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


def test_another_file_in_its_place_is_noticed(tmp_path):
    path = small_network(tmp_path / 'network.onnx')
    network = recogniser(path)
    small_network(path, last=7)
    with pytest.raises(CheckpointError, match='is not the file of the run'):
        _ = network.feature_dim


def _two_inputs(path):
    network = Network()
    network.add('Add', 'x', 'x')
    model = network.model(['n', 3, 112, 96])
    other = model.graph.input.add()
    other.CopyFrom(model.graph.input[0])
    other.name = 'y'
    path.write_bytes(model.SerializeToString())


def _a_picture(path):
    network = Network()
    network.conv('x', 3, 2, 1)
    network.save(path, ['n', 3, 112, 96])


def _always_the_same(path):
    network = Network()
    y = network.add('Flatten', network.add('GlobalAveragePool', 'x'))
    network.add('Gemm', y, np.zeros((3, 6), np.float32), normal(6))
    network.save(path, ['n', 3, 112, 96])


@pytest.mark.parametrize(
    'write, message',
    (
        (_two_inputs, r"network.onnx has the inputs: 'x' .*'y' .*; expected one"),
        (_a_picture, r'network.onnx gives \[2, 112, 96\] for a face; expected'),
        (_always_the_same, r'network.onnx do not change with the face'),
    ),
)
def test_what_is_no_recognition_network_is_refused(write, message, tmp_path):
    write(tmp_path / 'network.onnx')
    with pytest.raises(CheckpointError, match=message):
        recogniser(tmp_path / 'network.onnx').fit(FACES)


def _config(**cnnr):
    config = schema.base()
    config.cnnr = ConfigDict({'kind': 'onnx', 'file': '', 'activations': ()} | cnnr)
    config.recognition = schema.stage(
        'pretrained', steps=1, batch_size=8, optimizers={}, data_seed=0, best=''
    )
    config.stages = ('recognition',)
    return config


@pytest.mark.parametrize(
    'cnnr, message',
    (
        ({'file': ''}, 'cnnr.file is empty'),
        ({'file': 'nowhere.onnx'}, 'nowhere.onnx is missing'),
        ({'colour': 'RGB'}, 'cnnr.colour is not a field of an ONNX network'),
        ({'mean': 'x'}, "mean of the ONNX network is 'x'; expected 1 or 3 numbers"),
        ({'centred': 'no'}, "centred of the ONNX network is 'no'; expected true"),
        ({'activations': ('nope',)}, "cnnr.activations names 'nope'"),
    ),
)
def test_a_config_says_what_is_wrong_with_the_file(cnnr, message, tmp_path):
    path = small_network(tmp_path / 'x.onnx')
    config = _config(**{'file': str(path)} | cnnr)
    # Once, not once for each stage.
    config.second = config.recognition.copy_and_resolve_references()
    config.stages = ('recognition', 'second')
    (problem,) = check.find_problems(config)
    assert message in problem


def test_a_file_may_lie_elsewhere(tmp_path):
    """It is known by its SHA-256."""
    path = small_network(tmp_path / 'network.onnx')
    moved = path.rename(tmp_path / 'other.onnx')
    small_network(path)
    here, there, another = (
        models.describe_file({'kind': 'onnx', 'file': str(each)})
        for each in (moved, moved, path)
    )
    there['file'] = '/elsewhere/network.onnx'
    checkpoint.check_record({'cnnr': there}, {'cnnr': here}, 'the run')
    with pytest.raises(CheckpointError, match='sha256'):
        checkpoint.check_record({'cnnr': another}, {'cnnr': here}, 'the run')


def test_statistics_are_not_trained(tmp_path):
    """A variance that is would turn negative."""
    network = Network()
    y = network.norm(network.conv('x', 3, 4, 16, strides=[16, 16]), 4)
    y = network.add('Flatten', y)
    network.add('Gemm', y, normal(4 * 7 * 6, 6, scale=0.1))
    path = network.save(tmp_path / 'network.onnx', ['n', 3, 112, 96])
    shapes = [array.shape for array in recogniser(path).fit(FACES)['arrays']]
    # Kernel, scale and bias of the normalisation, dense layer.
    assert shapes == [(4, 3, 16, 16), (4,), (4,), (168, 6)]


def test_a_network_that_is_trained_here_is_not_pretrained():
    config = _config()
    config.cnnr = schema.base().cnnr
    (problem,) = check.find_problems(config)
    assert 'expected config.cnnr.kind dlib, onnx, or the rule recognition' in problem
