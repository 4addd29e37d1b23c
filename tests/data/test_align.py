import numpy as np
import pytest
from PIL import Image

from sicnn_jax.data import align
from sicnn_jax.data.records import DatasetError


def similarity(angle, scale, x, y):
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def apply(transform, points):
    return np.asarray(points) @ transform[:, :2].T + transform[:, 2]


def picture(height, width):
    """A smooth colour picture without symmetries."""
    y, x = np.mgrid[:height, :width] / 20
    planes = [np.sin(x + 0.3 * y), np.cos(0.7 * y - 0.2 * x), np.sin(0.5 * x * y / 3)]
    return np.uint8(np.rint(127.5 + 100 * np.stack(planes, axis=-1)))


@pytest.mark.parametrize('angle', [0.0, 0.4, -1.3, 3.0])
@pytest.mark.parametrize('scale', [0.2, 1.0, 7.0])
def test_similarity_is_recovered(angle, scale):
    true = similarity(angle, scale, 13.0, -40.0)
    found = align.similarity_transform(align.TEMPLATE, apply(true, align.TEMPLATE))
    np.testing.assert_allclose(found, true, atol=1e-9)
    assert found.dtype == np.float64


def test_similarity_is_the_least_squares_one():
    """No nearby transform of the family fits noisy points better."""
    rng = np.random.default_rng(0)
    source = np.array(align.TEMPLATE)
    target = apply(similarity(0.3, 1.4, 5, 6), source) + rng.normal(0, 3, (5, 2))
    found = align.similarity_transform(source, target)
    error = ((apply(found, source) - target) ** 2).sum()
    a, b = found[0, 0], found[1, 0]
    np.testing.assert_allclose(found[:, :2], [[a, -b], [b, a]], atol=1e-12)
    for change in 1e-3 * np.array([*np.eye(4), *-np.eye(4)]):
        da, db, dx, dy = change
        other = found + np.array([[da, -db, dx], [db, da, dy]])
        assert ((apply(other, source) - target) ** 2).sum() > error


def test_mirrored_points_do_not_make_a_reflection():
    mirrored = np.array(align.TEMPLATE) * [-1, 1]
    found = align.similarity_transform(align.TEMPLATE, mirrored)
    assert np.linalg.det(found[:, :2]) > 0


@pytest.mark.parametrize(
    ('source', 'target', 'message'),
    [
        ([[1, 2]] * 5, align.TEMPLATE, 'on one point'),
        (align.TEMPLATE, [[1, 2]] * 5, 'on one point'),
        (
            [[1, 0], [-1, 0], [0, 1], [0, -1]],
            [[-1, 0], [1, 0], [0, 1], [0, -1]],
            'No rot',
        ),
        (align.TEMPLATE[:4], align.TEMPLATE, r'shapes \[4, 2\] and \[5, 2\]'),
        ([[np.nan, 0], [0, 1]], [[0, 0], [0, 1]], 'not a finite number'),
    ],
)
def test_impossible_landmarks(source, target, message):
    with pytest.raises(DatasetError, match=message):
        align.similarity_transform(source, target)


ORDERS = {
    'left and right are exchanged': [1, 0, 2, 4, 3],
    'the eyes are exchanged': [1, 0, 2, 3, 4],
    'the mouth corners are exchanged': [0, 1, 2, 4, 3],
    'they are not x and y of left eye': [2, 0, 1, 3, 4],
}


@pytest.mark.parametrize('angle', [0.0, 0.6])
@pytest.mark.parametrize('noise', [0.0, 1.5])
def test_landmarks_that_are_those_of_no_face_are_refused(angle, noise):
    rng = np.random.default_rng(0)
    face = apply(similarity(angle, 2.5, 150, 60), align.TEMPLATE)
    face += rng.normal(0, 2.5 * noise, (5, 2))
    wrong = {reason: face[order] for reason, order in ORDERS.items()}
    wrong['x and y are exchanged'] = face[:, ::-1]
    wrong['y counts from below'] = face * [1, -1] + [0, 400]
    for reason, points in wrong.items():
        for scale in (1, 8):
            with pytest.raises(DatasetError, match=f'pixels of .* off .*{reason}'):
                align.face_transform(points, scale)
    with pytest.raises(DatasetError, match='left and right are exchanged'):
        align.align_face(np.zeros((400, 500, 3), np.uint8), face[[1, 0, 2, 4, 3]])
    for turn in range(4):
        points = apply(similarity(turn * np.pi / 2, 0.2, 0, 0), face)
        expected = align.similarity_transform(points, align.scaled_template(4))
        np.testing.assert_array_equal(align.face_transform(points, 4), expected)


@pytest.mark.parametrize('yaw', [-90, -75, -45, 0, 60, 90])
@pytest.mark.parametrize('nose', [25, 45])
def test_faces_from_the_side_are_accepted(yaw, nose):
    """A nose so many mm before eyes that are 63 mm apart; the head is turned."""
    flat = np.array(align.TEMPLATE)
    depth = 35.2 / 63 * np.array([0, 0, nose, 4, 4])
    yaw = np.radians(yaw)
    x = (flat[:, 0] - 48) * np.cos(yaw) + depth * np.sin(yaw)
    align.face_transform(np.stack([x, flat[:, 1]], axis=1))


def test_identity_is_exact():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (112, 96, 3), np.uint8)
    np.testing.assert_array_equal(align.warp(image, np.eye(2, 3)), image)


def test_translation_by_whole_pixels_is_exact():
    image = picture(150, 140)
    moved = align.warp(image, [[1, 0, -20], [0, 1, -11]])
    np.testing.assert_array_equal(moved, image[11 : 11 + 112, 20 : 20 + 96])


def test_quarter_turn_is_exact():
    image = picture(96, 112)
    turned = align.warp(image, [[0, -1, 95], [1, 0, 0]])
    np.testing.assert_array_equal(turned, np.rot90(image, -1))


def test_points_land_where_the_transform_says():
    """A bright dot at (x, y) of the source is brightest at its image."""
    y, x = np.mgrid[:200, :300]
    dot = np.exp(-((x - 210) ** 2 + (y - 120) ** 2) / (2 * 6**2))
    image = np.repeat(np.uint8(255 * dot)[..., None], 3, axis=-1)
    transform = similarity(0.5, 0.6, -40.0, -70.0)
    result = align.warp(image, transform).astype(float).sum(-1)
    rows, columns = np.mgrid[: result.shape[0], : result.shape[1]]
    centre = [(columns * result).sum(), (rows * result).sum()] / result.sum()
    np.testing.assert_allclose(centre, apply(transform, [210, 120]), atol=0.1)


def test_there_and_back():
    image = picture(112, 96)
    transform = similarity(0.2, 3.0, 30.0, -20.0)
    large = align.warp(image, transform, (400, 350))
    inverse = np.linalg.inv(np.vstack([transform, [0, 0, 1]]))[:2]
    back = align.warp(large, inverse).astype(int)
    inside = np.s_[30:70, 30:70]
    # The way back blurs a little, against aliasing.
    assert np.abs(back[inside] - image[inside]).max() <= 4


@pytest.mark.parametrize('angle', [0.0, 0.5])
def test_shrinking_does_not_alias(angle):
    """A checkerboard of single pixels becomes grey, not a coarser pattern."""
    board = np.indices((480, 480)).sum(0) % 2 * 255
    image = np.repeat(np.uint8(board)[..., None], 3, axis=-1)
    small = align.warp(image, similarity(angle, 0.25, 12.0, 0.0), (60, 60))
    inside = small[25:40, 25:40].astype(int)
    assert np.abs(inside - 127.5).max() <= 2


def test_large_pictures_give_the_same_as_their_part():
    """Only what is seen is computed, and that changes nothing."""
    image = picture(900, 1200)
    transform = similarity(0.1, 0.8, -300.0, -250.0)
    part = image[200:800, 250:950]
    shifted = transform.copy()
    shifted[:, 2] = apply(transform, [250, 200])
    np.testing.assert_allclose(
        align.warp(image, transform).astype(int), align.warp(part, shifted), atol=1
    )


def test_beyond_the_picture_its_edge_is_repeated():
    image = np.full((50, 50, 3), 90, np.uint8)
    far = align.warp(image, [[1, 0, -500], [0, 1, 700]])
    np.testing.assert_array_equal(far, np.full((112, 96, 3), 90))


def test_align_face_puts_landmarks_on_the_template():
    transform = similarity(-0.4, 2.5, 150.0, 60.0)
    landmarks = apply(transform, align.TEMPLATE)
    image = np.zeros((400, 500, 3), np.uint8)
    y, x = np.mgrid[:400, :500]
    for px, py in landmarks:
        image[(x - px) ** 2 + (y - py) ** 2 < 6**2] = 255
    face = align.align_face(image, landmarks)
    assert face.shape == (112, 96, 3)
    for px, py in align.TEMPLATE:
        assert face[round(py), round(px)].min() > 240
    assert (face > 127).mean() < 0.02


def test_center_crop():
    image = picture(112, 96)
    np.testing.assert_array_equal(align.center_crop(image), image)
    # Wider than 96:112: the middle of the width; exactly the part itself.
    wide = np.concatenate([np.zeros((112, 20, 3), np.uint8), image] * 2, axis=1)
    wide = wide[:, : 20 + 96 + 20]
    np.testing.assert_array_equal(align.center_crop(wide), image)
    tall = np.concatenate([np.zeros((9, 96, 3), np.uint8), image, image[:9]])
    np.testing.assert_array_equal(align.center_crop(tall), image)
    large = np.asarray(Image.fromarray(image).resize((960, 1120), Image.BICUBIC))
    difference = align.center_crop(large).astype(int) - image
    assert np.abs(difference)[2:-2, 2:-2].max() <= 3


@pytest.mark.parametrize('function', [align.center_crop, lambda i: align.warp(i, None)])
@pytest.mark.parametrize(
    'image', [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32)]
)
def test_wrong_images(function, image):
    with pytest.raises(DatasetError, match='expected uint8'):
        function(image)


def test_read_landmarks(tmp_path):
    path = tmp_path / 'landmarks.txt'
    path.write_text(
        'a/a b.jpg\t1\t2\t3\t4\t5\t6\t7\t8\t9\t10\n\nc.jpg 0 0 0 0 0 0 0 0 0 .5'
    )
    landmarks = align.read_landmarks(path)
    assert set(landmarks) == {'a/a b.jpg', 'c.jpg'}
    np.testing.assert_array_equal(
        landmarks['a/a b.jpg'], np.arange(1.0, 11).reshape(5, 2)
    )
    assert landmarks['c.jpg'][4, 1] == 0.5


@pytest.mark.parametrize(
    'line', ['b.jpg 1 2 3', 'b.jpg 1 2 3 4 5 6 7 8 9 x', 'b.jpg 1 2 3 4 5 6 7 8 9 nan']
)
def test_malformed_landmarks_name_the_line(tmp_path, line):
    path = tmp_path / 'landmarks.txt'
    path.write_text(f'a.jpg 1 2 3 4 5 6 7 8 9 10\n{line}\n')
    with pytest.raises(DatasetError, match=rf'landmarks\.txt, line 2: .*{line}'):
        align.read_landmarks(path)


def test_landmarks_given_twice_or_missing(tmp_path):
    path = tmp_path / 'landmarks.txt'
    path.write_text('a.jpg 1 2 3 4 5 6 7 8 9 10\n' * 2)
    with pytest.raises(DatasetError, match=r'line 2: a\.jpg occurs a second time'):
        align.read_landmarks(path)
    with pytest.raises(DatasetError, match=r'none\.txt cannot be read'):
        align.read_landmarks(tmp_path / 'none.txt')


def test_scaled_template_is_where_degrading_moves_the_points():
    """A pixel of a small face is the middle of 8×8 pixels of the large one."""
    small = align.scaled_template(8)
    np.testing.assert_allclose(8 * small + 3.5, align.TEMPLATE)
    np.testing.assert_array_equal(align.scaled_template(1), align.TEMPLATE)


def test_paste_by_the_identity():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (150, 140, 3), np.uint8)
    face = rng.integers(0, 256, (112, 96, 3), np.uint8)
    pasted = align.paste_face(photo, face, [[1, 0, -20], [0, 1, -11]])
    np.testing.assert_array_equal(
        pasted[11 + 12 : 123 - 12, 32:104], face[12:-12, 12:-12]
    )
    outside = np.ones((150, 140), bool)
    outside[12:122, 21:115] = False
    np.testing.assert_array_equal(pasted[outside], photo[outside])
    assert pasted is not photo


@pytest.mark.parametrize('angle', [0.0, 0.5])
def test_paste_undoes_align(angle):
    """What was cut out and is put back changes a smooth picture little."""
    photo = picture(200, 220)
    transform = similarity(angle, 0.8, -20, -10)
    pasted = align.paste_face(photo, align.warp(photo, transform), transform)
    assert np.abs(pasted.astype(int) - photo).max() <= 3


def test_paste_outside_of_the_picture():
    photo = picture(50, 40)
    face = picture(112, 96)
    for x in (-500, 500):
        moved = [[1, 0, x], [0, 1, 0]]
        np.testing.assert_array_equal(align.paste_face(photo, face, moved), photo)
