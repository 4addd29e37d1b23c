"""A teacher's features: found by the keys of faces, from their mean on."""

import jax
import numpy as np
import pytest
from PIL import Image

from sicnn_jax import describe, images, lock
from sicnn_jax.data import align, dataset, records, targets
from sicnn_jax.data.preparing import teacher
from sicnn_jax.data.records import DatasetError
from sicnn_jax.evaluation.judge import load_judge
from tests import tiny_run
from tests.data.test_dataset import _config
from tests.writing import write_set

COUNT = 7


@pytest.fixture
def directory(tmp_path):
    """Faces whose red is their number, five to train on."""
    faces = [
        records.Face(
            np.full((112, 96, 3), number, np.uint8), f'p{number}', f'p/{number}.png'
        )
        for number in range(COUNT)
    ]
    path = tmp_path / 'shards'
    splits = {'train': faces[:5], 'test': faces[5:]}
    write_set(path, splits, alignment={'kind': 'none'})
    return path


def _write(path, keys):
    features = np.array([[int(key[2]), 1.0] for key in keys], np.float32)
    targets.write_targets(path, 'a teacher', keys, features)
    return path


def _keys(*numbers):
    return [f'p/{number}.png' for number in numbers]


def test_every_face_of_a_batch_comes_with_its_own(directory, tmp_path):
    # In another order than the faces, and with some that are not there.
    path = _write(tmp_path / 'targets', _keys(9, 4, 2, 0, 1, 3, 8))
    config = _config(directory, targets=str(path), brightness=0.1)
    faces = dataset.open_faces(config, directory)
    assert faces.targets.teacher == 'a teacher'
    batch = next(faces.train_batches(batch_size=4, seed=0))
    found = jax.jit(faces.to_hr)({**batch, **faces.resident})
    keys = faces.batch_keys(batch_size=4, seed=0, step=0)
    # Of the five training faces, the mean number is 2.
    expected = [[int(key[2]) - 2, 0] for key in keys]
    np.testing.assert_allclose(found['target'], expected)
    assert sorted(found) == ['hr', 'label', 'target']


def test_faces_that_were_not_described_are_named(directory, tmp_path):
    path = _write(tmp_path / 'targets', _keys(0, 1, 2, 4))
    with pytest.raises(DatasetError, match=r"lacks 1 of 5 faces .*'p/3.png'.*describe"):
        targets.read_targets(path, directory)


@pytest.mark.parametrize('content', (None, b'', b'nothing of the kind'))
def test_a_missing_or_damaged_file_is_named(content, directory, tmp_path):
    path = tmp_path / 'targets'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r'data.targets: .*targets is (missing|dam)'):
        targets.read_targets(path, directory)


def _teach(monkeypatch, seen):
    """A teacher that says how light a face is; `seen` gets what it is asked."""

    def open_teacher(*_):
        def function(faces):
            seen.extend(face.key for face in faces)
            levels = [records.decode_image(face.image)[0, 0] for face in faces]
            return np.array(levels, np.float32)

        return 'light 123', function

    monkeypatch.setattr(teacher, '_open_teacher', open_teacher)


def test_describing_goes_on_where_it_was_interrupted(directory, monkeypatch, capsys):
    monkeypatch.setattr(teacher, '_CHUNK', 2)
    seen = []
    _teach(monkeypatch, seen)
    write = np.save

    def save(path, array):
        if len(seen) > 4:
            raise KeyboardInterrupt
        write(path, array)

    monkeypatch.setattr(np, 'save', save)
    assert describe.main([f'--data={directory}']) == 130
    assert 'the same command continues' in capsys.readouterr().err
    monkeypatch.setattr(np, 'save', write)
    assert describe.main([f'--data={directory}']) == 0
    # Two chunks were done; the third is described again.
    assert len(seen) == COUNT + 1
    path = directory / 'targets-light.safetensors'
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    found = targets.read_targets(path, directory)
    np.testing.assert_allclose(found.features, [[i - 2] * 3 for i in range(5)])
    assert not list(directory.glob('.*unfinished'))


def test_what_another_teacher_said_is_not_taken_over(directory, monkeypatch):
    monkeypatch.setattr(teacher, '_CHUNK', 2)
    folder = directory / '.targets-light.unfinished' / 'train'
    folder.mkdir(parents=True)
    np.save(folder / '0000000.npy', np.zeros((2, 3), np.float32))
    (folder.parent / 'settings.json').write_text('{"teacher": "another"}')
    _teach(monkeypatch, [])
    with pytest.raises(DatasetError, match=r'unfinished is from .* another teacher'):
        teacher.describe(directory, 'light')
    # Nobody else's work is deleted.
    assert (folder / '0000000.npy').exists()


def test_one_run_at_a_time_describes(directory, monkeypatch):
    _teach(monkeypatch, [])
    with (
        lock.hold(directory / '.targets-light.unfinished'),
        pytest.raises(lock.InUseError, match='in use by another run'),
    ):
        teacher.describe(directory, 'light')


@pytest.mark.parametrize(
    'arguments, message',
    (
        (('--photographs=there',), 'photographs and landmarks go together'),
        (
            ('--teacher=x.onnx', '--photographs=a', '--landmarks=b'),
            'photographs are for the teacher dlib',
        ),
    ),
)
def test_what_does_not_go_together_is_an_error(arguments, message, directory, capsys):
    assert describe.main([f'--data={directory}', *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_photograph_that_is_missing_is_named(directory, tmp_path):
    faces = [*records.read_faces(directory, 'test')]
    points = {'p/5.png': np.zeros((5, 2))}
    with pytest.raises(DatasetError, match=r'p/5.png is missing'):
        teacher._chips(tmp_path, points, faces)
    with pytest.raises(DatasetError, match=r'landmarks of p/5.png is missing'):
        teacher._chips(tmp_path, {}, faces)


def test_a_chip_of_a_photograph_is_that_of_its_face(tmp_path):
    """Up to the pixels below the chin, which the aligned face does not have."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (1, 28, 24, 3), np.uint8)
    photograph = np.asarray(images.enlarge(coarse))[0].repeat(2, 0).repeat(2, 1)
    points = np.array(align.TEMPLATE) * 1.5 + [20, 30]
    (tmp_path / 'p').mkdir()
    Image.fromarray(photograph).save(tmp_path / 'p' / '0.png')
    face = records.Face(
        records.encode_image(align.align_face(photograph, points), 'png'),
        'p',
        'p/0.png',
    )
    (of_photograph,) = teacher._chips(tmp_path, {'p/0.png': points}, [face])
    (of_face,) = teacher._chips_of_faces([face])
    difference = np.abs(of_photograph.astype(float) - of_face)[:130, 5:-5]
    assert np.median(difference) < 5
    assert np.median(np.abs(of_face[:130, 5:-5] - of_face[:130, 5:-5].mean())) > 20


@pytest.mark.parametrize('kind', ('network', 'stage'))
def test_a_teacher_says_what_it_says_as_a_judge(kind, directory, tmp_path):
    if kind == 'network':
        pytest.importorskip('onnxruntime')
        from tests.models.test_onnx_recogniser import small_network

        path = small_network(tmp_path / 'network.onnx')
    else:
        tiny_run.write_run(tmp_path / 'run')
        path = tmp_path / 'run' / 'recognition'
    found = teacher.describe(directory, str(path))
    hr, _ = dataset.read_split(directory, 'train')
    expected = load_judge(path).describe(hr)[0]
    np.testing.assert_allclose(
        targets.read_targets(found, directory).features,
        expected - expected.mean(0),
        rtol=1e-3,
        atol=1e-4,
    )
    # What is written is not written again, nor over another teacher's.
    before = found.stat().st_mtime_ns
    assert teacher.describe(directory, str(path)) == found
    assert found.stat().st_mtime_ns == before
    _write(found, _keys(*range(COUNT)))
    with pytest.raises(DatasetError, match="by the teacher 'a teacher', but"):
        teacher.describe(directory, str(path))
