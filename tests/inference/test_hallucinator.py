import shutil

import numpy as np
import pytest

from sicnn_jax import images, inference, models
from sicnn_jax.checkpoint import CheckpointError, load_networks, save_networks
from sicnn_jax.data import align
from sicnn_jax.inference.hallucinator import Hallucinator, magnification
from sicnn_jax.inference.pasting import paste_back
from sicnn_jax.workdir import find_stage
from tests.tiny_run import write_run


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('run')
    write_run(workdir)
    return workdir


@pytest.fixture(scope='module')
def hallucinator(workdir):
    return Hallucinator(workdir)


def faces(n, shape=(14, 12, 3)):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)


def picture(height, width):
    y, x = np.mgrid[:height, :width] / 15
    planes = [np.sin(x + 0.3 * y), np.cos(0.7 * y - 0.2 * x), np.sin(0.5 * x * y / 3)]
    return np.uint8(np.rint(127.5 + 100 * np.stack(planes, axis=-1)))


def landmarks_at(factor, x, y):
    """The template in a picture: larger by a factor, and moved."""
    return (np.array(align.TEMPLATE) + 0.5) * factor - 0.5 + [x, y]


def test_equals_super_resolve(tmp_path):
    record, params = write_run(tmp_path)
    lr = faces(4)
    expected = inference.super_resolve(models.cnnh_from(record), params, lr)
    sr = Hallucinator(tmp_path)(lr)
    # Another program for the same, which may round differently here and there.
    np.testing.assert_allclose(sr, expected.astype(int), atol=1)
    assert np.mean(sr != expected) < 1e-3
    assert sr.dtype == np.uint8 and sr.shape == (4, 112, 96, 3)


@pytest.mark.parametrize('field', ['convention', 'scale', 'degradation', 'models'])
def test_a_record_that_lacks_a_field_is_refused(field, workdir, tmp_path):
    params, record = load_networks(find_stage(workdir))
    save_networks(tmp_path, params, {k: v for k, v in record.items() if k != field})
    with pytest.raises(CheckpointError, match=f'record without {field}; .*Save it'):
        Hallucinator(tmp_path)


def test_any_number_of_faces(hallucinator):
    lr = faces(37)
    sr = hallucinator(lr)
    for n in (0, 1, 3):
        # Programs for batches of other sizes may round differently.
        np.testing.assert_allclose(hallucinator(lr[:n]), sr[:n].astype(int), atol=1)
    np.testing.assert_array_equal(hallucinator(lr.astype(np.float64)), sr)
    assert hallucinator.enlarge(lr[:3]).shape == (3, 112, 96, 3)
    assert hallucinator.features(sr[:3]).shape == (3, 8)


@pytest.mark.parametrize(
    ('lr', 'message'),
    [
        (np.zeros((1, 28, 24, 3), np.uint8), r'\[1, 28, 24, 3\]; this network takes'),
        (np.zeros((14, 12, 3), np.uint8), r'takes \[n, 14, 12, 3\]'),
        (np.zeros((1, 14, 12, 3), np.int32), 'int32; expected uint8 or floats'),
        (np.full((1, 14, 12, 3), 0.5), r'from 0.5 to 0.5; expected 0..255'),
        (np.full((1, 14, 12, 3), -3.0), 'from -3.0'),
        (np.full((1, 14, 12, 3), np.nan), 'from nan'),
    ],
)
def test_bad_faces(hallucinator, lr, message):
    with pytest.raises(ValueError, match=message):
        hallucinator(lr)


def test_stage_of_a_run(workdir, tmp_path):
    assert find_stage(workdir) == workdir / 'domain_integrated'
    assert find_stage(workdir / 'domain_integrated') == workdir / 'domain_integrated'
    assert Hallucinator(workdir).cnnr_stage == workdir / 'recognition'
    run = tmp_path / 'run'
    shutil.copytree(workdir, run)
    (run / 'domain_integrated').rename(run / 'sr_only')
    assert find_stage(run) == run / 'sr_only'
    shutil.rmtree(run / 'sr_only')
    with pytest.raises(CheckpointError, match='no finished stage with a CNNH'):
        find_stage(run)
    with pytest.raises(CheckpointError, match='neither a finished stage nor'):
        find_stage(tmp_path / 'missing')
    with pytest.raises(CheckpointError, match='has no network cnnh; it has cnnr'):
        Hallucinator(run / 'recognition')


def test_without_recognition(tmp_path):
    write_run(tmp_path, recognition=False)
    assert Hallucinator(tmp_path).features(faces(1, (112, 96, 3))) is None


@pytest.mark.parametrize('degradation', images.DEGRADATIONS)
def test_large_faces_are_degraded_as_in_training(tmp_path, degradation):
    write_run(tmp_path, degradation=degradation, recognition=False)
    hr = picture(112, 96)
    photo = np.pad(hr, ((20, 30), (10, 15), (0, 0)), 'edge')
    found = Hallucinator(tmp_path).network_input(photo, landmarks_at(1, 10, 20))
    expected = inference.degrade_faces(hr[None], scale=8, kind=degradation)[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('scale', [8, 4])
def test_small_faces_are_sampled(tmp_path, scale):
    """A face of the input's size, placed on whole pixels, keeps its pixels."""
    write_run(tmp_path, scale=scale, recognition=False)
    hallucinator = Hallucinator(tmp_path)
    height, width, _ = hallucinator.lr_shape
    photo = picture(60, 70)
    landmarks = landmarks_at(1 / scale, 9, 17)
    assert magnification(landmarks) == pytest.approx(scale)
    assert magnification(landmarks, scale) == pytest.approx(1)
    np.testing.assert_array_equal(
        hallucinator.network_input(photo, landmarks),
        photo[17 : 17 + height, 9 : 9 + width],
    )


def test_an_input_is_a_face_as_it_is(hallucinator):
    (face,) = hallucinator.locate(faces(1)[0])
    np.testing.assert_array_equal(face.landmarks, align.scaled_template(8))


def test_paste_back_enlarges_to_the_size_of_the_faces():
    photo, face = picture(60, 80), picture(112, 96)
    pasted = paste_back(
        photo, [(face, landmarks_at(1 / 4, 20, 10))], max_magnification=8
    )
    assert pasted.shape == (240, 320, 3)
    inner = pasted[40 + 12 : 152 - 12, 80 + 12 : 176 - 12]
    np.testing.assert_array_equal(inner, face[12:-12, 12:-12])
    large = paste_back(
        photo, [(face, landmarks_at(1 / 4, 20, 10))], max_magnification=2
    )
    assert large.shape == (120, 160, 3)
    np.testing.assert_array_equal(paste_back(photo, [], max_magnification=8), photo)


def test_paste_back_never_reduces():
    photo = picture(300, 280)
    pasted = paste_back(
        photo, [(picture(112, 96), landmarks_at(2, 9, 9))], max_magnification=8
    )
    assert pasted.shape == photo.shape
    np.testing.assert_array_equal(pasted[:8], photo[:8])
