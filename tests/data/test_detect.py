import importlib.util

import numpy as np
import pytest
import skimage
from PIL import Image

from sicnn_jax.data import align, detect, mtcnn
from sicnn_jax.data.records import DatasetError

needs_mtcnn = pytest.mark.skipif(
    importlib.util.find_spec('mtcnn') is None, reason='the extra detect'
)


@pytest.fixture
def faked(monkeypatch):
    """For tests with a detector of their own, which need no package."""
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: 'there')
    monkeypatch.setattr(detect, '_SEEN', 12)
    return lambda find: monkeypatch.setattr(mtcnn, 'find', find)


def face(left, top, size, score=0.9):
    box = np.array([left, top, size, size], float)
    return detect.DetectedFace(box, np.zeros((5, 2)), score)


def test_choose():
    small, large = face(45, 45, 10), face(0, 0, 30, score=0.95)
    faces = [large, small]
    assert detect.choose(faces, 'all', (100, 100)) == faces
    assert detect.choose(faces, 'largest', (100, 100)) == [large]
    assert detect.choose(faces, 'central', (100, 100)) == [small]
    assert detect.choose([], 'largest', (100, 100)) == []
    with pytest.raises(DatasetError, match="'best'; expected one of all, largest"):
        detect.choose(faces, 'best', (100, 100))


@pytest.mark.parametrize(
    ('image', 'options', 'message'),
    [
        (np.zeros((9, 9), np.uint8), {}, r'uint8 \[9, 9\]; expected'),
        (np.zeros((9, 9, 3)), {}, 'float64'),
        (np.zeros((9, 9, 3), np.uint8), {'min_size': 5}, 'min_size is 5'),
    ],
)
def test_bad_arguments(image, options, message):
    with pytest.raises(DatasetError, match=message):
        detect.find_faces(image, **options)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(detect.DetectorMissingError, match=r'sicnn_jax\[detect\]'):
        detect.find_faces(np.zeros((30, 30, 3), np.uint8))


@pytest.mark.parametrize('size', [(100, 80), (4000, 30), (4100, 3000)])
@pytest.mark.parametrize('factor', [0.5, 1.0, 1.7])
def test_views_show_everything_once_placed(size, factor):
    """Points of the image lie where they are expected in the view that shows them."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    image = np.stack([x, y, x], axis=-1).astype(np.uint8)
    seen = np.zeros((height, width), bool)
    for view, factors, corner in detect._views(image, factor):
        assert max(view.shape) <= detect._TILE
        first = (corner + 0.5) / factors - 0.5
        last = (corner + view.shape[1::-1] - 0.5) / factors - 0.5
        for at, pixel in ((first, view[0, 0]), (last, view[-1, -1])):
            expected = 250 * at / (np.array(size) - 1)
            np.testing.assert_allclose(pixel[:2], np.clip(expected, 0, 250), atol=6)
        left, top = np.floor(first).astype(int)
        right, bottom = np.ceil(last).astype(int)
        seen[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
    assert seen.all() or min(size) * factor < detect._LEAST_SIDE


def test_what_has_no_landmarks_of_a_face_is_none(faked):
    template = np.array(align.TEMPLATE)
    marks = np.stack([template, template[[1, 0, 2, 4, 3]] + 200])
    boxes = np.array([[0, 0, 96, 112], [200, 200, 296, 312.0]])
    faked(lambda view: (boxes, [0.95, 0.99], marks))
    (found,) = detect.find_faces(np.zeros((320, 320, 3), np.uint8), min_size=12)
    np.testing.assert_array_equal(found.landmarks, template)


def test_a_face_in_two_tiles_counts_once():
    faces = [face(10, 10, 20, 0.95), face(11, 10, 20, 0.99), face(40, 10, 20, 0.93)]
    kept = detect._without_repeats(faces)
    assert [one.score for one in kept] == [0.99, 0.93]


@pytest.mark.parametrize('turns', [0, 1, 2, 3])
def test_faces_of_turned_photographs_are_where_they_are_in_the_photograph(faked, turns):
    """A detector that sees upright faces alone, by dots on the five points."""
    points = np.rint(np.add(align.TEMPLATE, [13, 7])).astype(int)
    upright = np.zeros((140, 160, 3), np.uint8)
    for level, (x, y) in enumerate(points, start=1):
        upright[y, x] = level
    seen = []

    def find(view):
        seen.append(view.shape)
        at = [np.argwhere(view[..., 0] == level)[0, ::-1] for level in range(1, 6)]
        boxes, marks = np.array([[13, 7, 109, 119.0]]), np.array([at], float)
        found = 1 if at[0][1] < at[4][1] and at[0][0] < at[1][0] else 0
        return boxes[:found], np.array([0.99])[:found], marks[:found]

    faked(find)
    photo = np.ascontiguousarray(np.rot90(upright, -turns))
    assert len(detect.find_faces(photo, min_size=12)) == (turns == 0)
    assert len(seen) == 1
    (face,) = detect.find_faces(photo, min_size=12, rotations=True)
    # Nothing more is looked at where a face is upright.
    assert len(seen) == (5 if turns else 2)
    for level, (x, y) in enumerate(face.landmarks, start=1):
        assert photo[round(y), round(x), 0] == level
    corner, end = face.box[:2], face.box[:2] + face.box[2:]
    assert (corner < face.landmarks.min(0)).all()
    assert (end > face.landmarks.max(0)).all()
    assert sorted(face.box[2:]) == [96, 112]


@needs_mtcnn
def test_a_face_is_found_at_any_size():
    astronaut = Image.fromarray(skimage.data.astronaut())
    (large,) = detect.find_faces(np.asarray(astronaut))
    turned = np.ascontiguousarray(np.rot90(astronaut))
    assert detect.find_faces(turned, min_size=40) == []
    (face,) = detect.find_faces(turned, min_size=40, rotations=True)
    expected = np.stack([large.landmarks[:, 1], 511 - large.landmarks[:, 0]], axis=1)
    np.testing.assert_allclose(face.landmarks, expected, atol=2)
    eyes = large.landmarks[1] - large.landmarks[0]
    assert 35 < eyes[0] < 50 and abs(eyes[1]) < 6
    for size in (64, 128):
        image = np.asarray(astronaut.resize((size, size), Image.Resampling.BICUBIC))
        (small,) = detect.find_faces(image)
        expected = (large.landmarks + 0.5) * size / 512 - 0.5
        np.testing.assert_allclose(small.landmarks, expected, atol=0.8)


@needs_mtcnn
@pytest.mark.parametrize('shape', [(5, 5, 3), (60, 50, 3)])
def test_no_face(shape):
    assert detect.find_faces(np.zeros(shape, np.uint8)) == []
