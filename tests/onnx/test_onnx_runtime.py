"""Networks from outside as judges: what they are given, and what is noticed."""

import json
import sys

import numpy as np
import pytest

from sicnn_jax import images
from sicnn_jax.data import align
from sicnn_jax.errors import CheckpointError
from sicnn_jax.evaluation.judge import check_originals, load_judge
from sicnn_jax.onnx.inputs import OnnxInput, complete, fit_faces, read_input

FACES = np.random.default_rng(0).integers(0, 256, (3, 112, 96, 3), np.uint8)


def write_onnx(path, shape=(None, 3, 112, 112), inside=None):
    """A network that hands its input on; of the shape `inside`, if that is given."""
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from onnx import TensorProto, helper

    names = [size or 'batch' for size in shape]
    node, held = helper.make_node('Flatten', ['input'], ['features']), []
    if inside:
        node = helper.make_node('Reshape', ['input', 'inside'], ['features'])
        held.append(helper.make_tensor('inside', TensorProto.INT64, [2], inside))
    graph = helper.make_graph(
        [node],
        'network',
        [helper.make_tensor_value_info('input', TensorProto.FLOAT, names)],
        [helper.make_tensor_value_info('features', TensorProto.FLOAT, [names[0], 'd'])],
        held,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9
    )
    onnx.save(model, path)
    return path


def seen(path, faces=FACES):
    """What a network that hands its input on is given: of faces, and mirrored."""
    return load_judge(path).describe(faces)


def test_the_defaults_are_insightface(tmp_path):
    path = write_onnx(tmp_path / 'model.onnx')
    alone, both = seen(path)
    given = alone.reshape(3, 3, 112, 112)
    padded = np.pad(FACES, ((0, 0), (0, 0), (8, 8), (0, 0)), mode='edge')
    expected = (padded.transpose(0, 3, 1, 2) - 127.5) / 127.5
    np.testing.assert_allclose(given, expected, atol=1e-6)
    mirrored = both[:, alone.shape[1] :].reshape(3, 3, 112, 112)
    np.testing.assert_allclose(mirrored, expected[..., ::-1], atol=1e-6)
    judge = load_judge(path)
    assert judge.name == str(path) and judge.mirrored and not judge.centred
    assert '112×112' in judge.expects and 'RGB' in judge.expects


def test_eyes_lie_where_arcface_has_them():
    # A cross at each landmark of our template is at that of ArcFace's, 8 to the right.
    face = np.zeros((1, images.HEIGHT, images.WIDTH, 3), np.uint8)
    points = np.rint(align.TEMPLATE).astype(int)
    face[0, points[:, 1], points[:, 0]] = 255
    rows, columns = np.nonzero(fit_faces(face, (112, 112))[0, ..., 0])
    arcface = np.rint(np.add(align.TEMPLATE, (8, 0))).astype(int)
    assert set(zip(columns, rows, strict=True)) == {tuple(p) for p in arcface.tolist()}


@pytest.mark.parametrize(
    'size', [(112, 96), (112, 112), (160, 160), (56, 48), (64, 32)]
)
def test_faces_fit_any_size(size):
    fitted = fit_faces(FACES, size)
    assert fitted.shape == (3, *size, 3) and fitted.dtype == np.uint8
    # No part is stretched: what is in the middle stays there.
    face = np.zeros((1, 112, 96, 3), np.uint8)
    face[:, 40:72, 32:64] = 255
    mass = fit_faces(face, size)[0, ..., 0].astype(float)
    center = [(mass.sum(1 - a) @ np.arange(size[a])) / mass.sum() for a in (0, 1)]
    np.testing.assert_allclose(center, [(size[0] - 1) / 2, (size[1] - 1) / 2], atol=0.1)
    side = np.sqrt(mass.sum() / 255)
    assert side == pytest.approx(32 * size[0] / 112, rel=0.02)


def test_the_json_says_what_the_network_is_given(tmp_path):
    path = write_onnx(tmp_path / 'model.onnx', (None, 112, 96, 3))
    settings = {
        'size': [112, 96],
        'mean': [1, 2, 3],
        'scale': [1, 0.5, 0.25],
        'colour_order': 'BGR',
        'mirror': False,
    }
    (tmp_path / 'model.json').write_text(json.dumps(settings))
    alone, both = seen(path)
    expected = (FACES[..., ::-1] - np.array([1, 2, 3])) * [1, 0.5, 0.25]
    np.testing.assert_allclose(alone.reshape(3, 112, 96, 3), expected, rtol=1e-5)
    assert both is alone or np.array_equal(both, alone)
    assert not load_judge(path).mirrored


def test_a_batch_of_one_and_many_faces(tmp_path):
    path = write_onnx(tmp_path / 'one.onnx', (1, 3, 112, 112))
    any_path = write_onnx(tmp_path / 'any.onnx')
    faces = np.repeat(FACES, 30, axis=0)
    np.testing.assert_allclose(seen(path, faces)[1], seen(any_path, faces)[1])
    assert seen(path, faces)[0].shape == (90, 3 * 112 * 112)


def test_a_batch_of_one_inside_is_given_one_face_at_a_time(tmp_path, capsys):
    size = 3 * 112 * 112
    path = write_onnx(tmp_path / 'one.onnx', inside=(1, size))
    np.testing.assert_array_equal(
        seen(path)[1], seen(write_onnx(tmp_path / 'any.onnx'))[1]
    )
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f'One face at a time: {path} fails when it is run on 3')
    path = write_onnx(tmp_path / 'none.onnx', inside=(1, 7))
    with pytest.raises(CheckpointError, match=r'none.onnx fails when .* on 1 face'):
        seen(path)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'size': [160, 160]}, 'correct layout or size'),
        ({'layout': 'NHWC'}, 'correct layout or size'),
        ({'size': [112]}, 'height and width'),
        ({'colour_order': 'RBG'}, 'RGB or BGR'),
        ({'layout': 'CHW'}, 'NCHW or NHWC'),
        ({'mean': [1, 2]}, '1 or 3 numbers'),
        ({'scale': 128}, 'numbers up to 1.63e'),
        ({'scale': 0}, 'expected a factor'),
        ({'std': 128}, "field 'std'"),
        ({'output': 'embedding'}, "no output 'embedding'; it has features"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, message):
    path = write_onnx(tmp_path / 'model.onnx')
    (tmp_path / 'model.json').write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        load_judge(path)


def test_files_that_are_no_networks_are_refused(tmp_path, monkeypatch):
    path = tmp_path / 'model.onnx'
    with pytest.raises(CheckpointError, match='is missing'):
        load_judge(path)
    path.write_bytes(b'no network')
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'onnxruntime', None)
        with pytest.raises(CheckpointError, match=r'pip install .*onnx'):
            load_judge(path)
    pytest.importorskip('onnxruntime')
    with pytest.raises(CheckpointError, match='cannot be opened'):
        load_judge(path)
    write_onnx(path, (None, 3, 112))
    with pytest.raises(CheckpointError, match='a batch of RGB images'):
        load_judge(path)
    (tmp_path / 'model.json').write_text('{')
    with pytest.raises(CheckpointError, match=r'model.json cannot be read'):
        read_input(path)


def test_the_file_decides_what_is_not_said():
    completed = complete(OnnxInput(), ['n', 3, 160, 160], 'x')
    assert (completed.size, completed.layout) == ((160, 160), 'NCHW')
    completed = complete(OnnxInput(), [1, 112, 96, 3], 'x')
    assert (completed.size, completed.layout) == ((112, 96), 'NHWC')
    completed = complete(OnnxInput(), ['n', 3, 'h', 'w'], 'x')
    assert completed.size == (112, 112)


def test_a_judge_at_chance_says_what_to_check(tmp_path):
    judge = load_judge(write_onnx(tmp_path / 'model.onnx'))
    assert 'Warning' not in check_originals(judge, 0.61, 0.6)
    line = check_originals(judge, 0.59, 0.5)
    assert '59.0%' in line and 'Warning' in line
    for check in ('colour order', 'value range', 'size', 'layout', '112×112'):
        assert check in line
    # Networks stand exchanged colours quite well.
    line = check_originals(judge, 0.95, 0.97)
    assert 'Warning: with red and blue exchanged it verifies 97.0%' in line
