"""MTCNN beside the package that has its weights, and parts of it beside plain loops."""

import importlib.util
import itertools

import jax
import numpy as np
import pytest
import skimage
from PIL import Image

from sicnn_jax.data import mtcnn, runtime


@pytest.fixture
def reference():
    pytest.importorskip('mtcnn' if importlib.util.find_spec('tensorflow') else 'none')
    runtime.import_tensorflow()
    from mtcnn import MTCNN

    return MTCNN()


def test_it_finds_what_the_package_finds(reference):
    astronaut = Image.fromarray(skimage.data.astronaut())
    # Two faces, and sides that no tile ends with.
    several = np.asarray(astronaut)[:300].copy()
    several[180:, :190] = np.asarray(astronaut.resize((311, 311)))[20:140, 50:240]
    pictures = [np.asarray(astronaut.resize((193, 211))), several]
    for picture, count in zip(pictures, (1, 2), strict=True):
        rows = reference.detect_faces(
            picture, output_type='numpy', box_format='xyxy', fit_to_image=False
        )
        found = mtcnn.find(picture)
        assert len(rows) == len(found.boxes) == count
        np.testing.assert_allclose(found.boxes, rows[:, 1:5], atol=0.01)
        np.testing.assert_allclose(found.scores, rows[:, 5], atol=1e-5)
        x_then_y = found.landmarks.swapaxes(1, 2).reshape(-1, 10)
        np.testing.assert_allclose(x_then_y, rows[:, 6:], atol=0.01)


@pytest.mark.parametrize('size', [(12, 13), (141, 267)])
def test_tiles_give_what_the_whole_picture_gives(size):
    rng = np.random.default_rng(0)
    weights = []
    for k, inputs, outputs in ((3, 3, 10), (3, 10, 16), (3, 16, 32)):
        weights += [rng.normal(0, 0.2, (k, k, inputs, outputs)), rng.normal(size=1)]
        weights += [rng.uniform(size=outputs)]
    for outputs in (4, 2):
        weights += [rng.normal(0, 0.2, (1, 1, 32, outputs)), rng.normal(size=1)]
    weights = [each.astype(np.float32) for each in weights]
    picture = rng.normal(size=(*size, 3)).astype(np.float32)
    tiles, (rows, columns) = mtcnn._tiles(picture)
    found = np.asarray(mtcnn._p_net(weights, tiles))

    x = mtcnn._layer(picture[None], *weights[:3])
    x = mtcnn.nn.max_pool(x, (2, 2), (2, 2), 'SAME')
    x = mtcnn._layer(mtcnn._layer(x, *weights[3:6]), *weights[6:9])
    scores = jax.nn.softmax(mtcnn._convolve(x, *weights[11:]))[0, ..., 1]
    assert scores.shape == (rows, columns)
    for tile, (i, j) in zip(
        found,
        itertools.product(range(0, rows, 64), range(0, columns, 64)),
        strict=True,
    ):
        part = scores[i : i + 64, j : j + 64]
        np.testing.assert_allclose(
            tile[: part.shape[0], : part.shape[1], 0], part, atol=1e-5
        )


def test_means_over_areas():
    picture = np.random.default_rng(0).uniform(size=(10, 7, 1))
    totals = np.pad(picture, ((1, 0), (1, 0), (0, 0))).cumsum(0).cumsum(1)
    shrunk = mtcnn._shrunk(totals, 0.8)
    # As if each pixel were of 4×5, so that no part divides one.
    fine = picture.repeat(4, axis=0).repeat(5, axis=1)
    expected = fine.reshape(8, 5, 5, 7, 1).mean((1, 3))
    np.testing.assert_allclose(shrunk, expected, rtol=1e-6)


@pytest.mark.parametrize('of_smaller', [False, True])
def test_boxes_that_a_stronger_one_overlaps_go(monkeypatch, of_smaller):
    monkeypatch.setattr(mtcnn, '_ROWS', 7)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (40, 2))], axis=1)
    scores = rng.uniform(size=40)

    def share(a, b):
        sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        shared = np.prod(np.maximum(sides, 0))
        areas = [np.prod(box[2:] - box[:2]) for box in (a, b)]
        return shared / (min(areas) if of_smaller else sum(areas) - shared)

    expected = {
        i
        for i in range(40)
        if all(
            share(boxes[i], boxes[j]) <= 0.3 for j in range(40) if scores[j] > scores[i]
        )
    }
    kept, strongest = mtcnn._strongest(boxes, scores, 0.3, of_smaller=of_smaller)
    assert 1 < len(expected) < 40
    np.testing.assert_array_equal(strongest, sorted(scores[[*expected]])[::-1])
    assert {*map(tuple, kept)} == {tuple(boxes[i]) for i in expected}


def test_of_equal_scores_the_last_is_kept_as_in_the_package():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60.0]])
    kept, _ = mtcnn._strongest(boxes, np.ones(3), 0.5)
    np.testing.assert_array_equal(kept, boxes[[2, 1]])


def test_inside_of_boxes():
    x, y = np.meshgrid(np.arange(30), np.arange(20))
    picture = np.stack([x, y, x * 0 + 1], axis=-1).astype(np.float32)
    (inside, half_outside) = mtcnn._crop(
        picture, np.array([[3, 4, 12, 18], [-10, 2, 10, 12]]), 5
    )
    factors = np.array([29 / 30, 19 / 20])
    np.testing.assert_allclose(inside[0, 0, :2], [3, 4] * factors, atol=1e-5)
    np.testing.assert_allclose(inside[-1, -1, :2], [12, 18] * factors, atol=1e-5)
    np.testing.assert_allclose(inside[2, 2, :2], [7.5, 11] * factors, atol=1e-5)
    np.testing.assert_array_equal(half_outside[..., 2], [[0, 0, 1, 1, 1]] * 5)
