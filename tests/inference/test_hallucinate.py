import json
import os
import re
import types
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sicnn_jax import hallucinate
from sicnn_jax.data import align, detect, image_files, records
from sicnn_jax.inference import Hallucinator, measuring, photographs
from sicnn_jax.inference.jobs import list_jobs
from tests.tiny_run import write_run

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('run')
    write_run(workdir)
    return workdir


@pytest.fixture
def call(workdir, tmp_path, monkeypatch):
    """The command; `found` says what the detector finds in photographs."""
    found = []
    options = []

    def find_faces(photo, rotations, **others):
        options.append(rotations)
        return found

    monkeypatch.setattr(detect, 'find_faces', find_faces)

    def call(*arguments):
        out = tmp_path / 'out'
        given = [*map(str, arguments), f'--checkpoint={workdir}', f'--out={out}']
        status = hallucinate.main(given)
        path = out / 'report.json'
        return status, json.loads(path.read_text()) if path.is_file() else None

    call.found, call.out, call.options = found, tmp_path / 'out', options
    return call


def save(path, *size):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = RNG.integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(image).save(path)
    return image


def detected(x, y, factor=1.0):
    landmarks = np.array(align.TEMPLATE) * factor + [x, y]
    return detect.DetectedFace(
        np.array([x, y, 96 * factor, 112 * factor]), landmarks, 0.99
    )


def read(path):
    return np.asarray(Image.open(path))


def files(directory):
    return sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob('*')
        if path.is_file()
    )


def test_an_input_sized_face_is_taken_as_it_is(call, workdir, tmp_path, monkeypatch):
    lr = save(tmp_path / 'face.png', 14, 12)
    monkeypatch.delattr(detect, 'find_faces')
    status, report = call(tmp_path / 'face.png')
    assert status == 0 and report['faces'] == 1
    expected = ['face_face0.png', 'face_face0_compare.png']
    assert files(call.out) == [*expected, 'report.json']
    assert report['files'][0]['written'] == expected
    sr = read(call.out / 'face_face0.png')
    np.testing.assert_array_equal(sr, Hallucinator(workdir)(lr[None])[0])
    sheet = read(call.out / 'face_face0_compare.png')
    np.testing.assert_array_equal(sheet[16:128, 4:100], lr.repeat(8, 0).repeat(8, 1))
    np.testing.assert_array_equal(sheet[16:128, 204:300], sr)


def test_folders_and_bad_files(call, tmp_path, capsys):
    folder = tmp_path / 'in'
    save(folder / 'a' / 'photo.png', 150, 140)
    save(folder / 'face.png', 14, 12)
    save(folder / '.hidden' / 'x.png', 14, 12)
    (folder / 'bad.jpg').write_bytes(b'no image')
    (folder / 'notes.txt').write_text('not an image')
    call.found += [detected(5, 6), detected(40, 30, 0.5)]
    status, report = call(folder, tmp_path / 'missing.png', '--paste')
    assert status == 0
    assert [entry['input'] for entry in report['files']] == [
        'bad.jpg',
        'face.png',
        'a/photo.png',
        'missing.png',
    ]
    bad, face, photo, missing = report['files']
    assert 'cannot be read as an image' in bad['reason'] and not bad['written']
    assert 'cannot be read' in missing['reason']
    assert 'bad.jpg: it cannot be read as an image' in capsys.readouterr().err
    assert face['written'][-1] == 'face_pasted.png'
    assert [Path(path).name for path in photo['written']] == [
        'photo_face0.png',
        'photo_face0_compare.png',
        'photo_face1.png',
        'photo_face1_compare.png',
        'photo_pasted.png',
    ]
    assert (report['images'], report['faces']) == (4, 3)
    assert read(call.out / 'a' / 'photo_pasted.png').shape == (300, 280, 3)
    assert not [name for name in files(call.out) if 'unfinished' in name]


def test_no_name_costs_the_report_of_others(call, tmp_path):
    latin = os.fsdecode(b'caf\xe9.png')
    save(tmp_path / 'in' / 'good.png', 14, 12)
    try:
        (tmp_path / 'in' / latin).write_bytes((tmp_path / 'in/good.png').read_bytes())
    except OSError:
        pytest.skip('this disk takes only UTF-8')
    status, report = call(tmp_path / 'in')
    assert status == 0 and report['faces'] == 2
    named = {entry['input']: entry['written'][0] for entry in report['files']}
    assert named == {
        r'caf\xe9.png': r'caf\xe9_face0.png',
        'good.png': 'good_face0.png',
    }
    assert (call.out / os.fsdecode(b'caf\xe9_face0.png')).is_file()


@pytest.mark.parametrize(('disk', 'given'), [('NFC', 'NFD'), ('NFD', 'NFC')])
def test_names_meet_however_they_are_spelled(call, tmp_path, disk, given):
    """In a landmarks file and in a folder of originals."""
    disk, given = (unicodedata.normalize(form, 'é.png') for form in (disk, given))
    save(tmp_path / 'in' / disk, 14, 12)
    original = save(tmp_path / 'hr' / given.replace('png', 'bmp'), 112, 96)
    numbers = ' '.join(map(str, np.ravel(align.scaled_template(8))))
    (tmp_path / 'landmarks.txt').write_text(f'{given} {numbers}\n', encoding='utf-8')
    status, report = call(
        tmp_path / 'in',
        f'--landmarks={tmp_path / "landmarks.txt"}',
        f'--compare={tmp_path / "hr"}',
    )
    assert status == 0 and report['files'][0]['input'] == disk
    sheet = read(call.out / disk.replace('.png', '_face0_compare.png'))
    np.testing.assert_array_equal(sheet[16:128, 304:400], original)


def test_no_face(call, tmp_path):
    save(tmp_path / 'photo.png', 150, 140)
    status, report = call(tmp_path / 'photo.png')
    assert status == 1
    upright = r'no face was found in it that is upright; --rotations finds .* by 90'
    assert re.match(upright, report['files'][0]['reason'])
    _, report = call(tmp_path / 'photo.png', '--rotations')
    assert report['files'][0]['reason'] == 'no face was found in it'
    assert call.options[-2:] == [False, True]


def test_places_are_those_of_the_file_and_wrong_landmarks_stop_no_other(
    call, tmp_path, monkeypatch
):
    """One photograph is read at half its size, of one left and right are exchanged."""
    points = np.add(align.TEMPLATE, [20.0, 11.0])
    given = {'a.png': points[[1, 0, 2, 4, 3]], 'b.jpg': 2 * points}
    save(tmp_path / 'in' / 'a.png', 150, 140)
    save(tmp_path / 'in' / 'b.jpg', 300, 280)
    (tmp_path / 'points.txt').write_text(
        ''.join(
            f'{name} {" ".join(map(str, each.ravel()))}\n'
            for name, each in given.items()
        )
    )
    monkeypatch.setattr(records, 'MAX_PIXELS', 300 * 280 - 1)
    flags = (f'--landmarks={tmp_path / "points.txt"}', '--paste')
    status, report = call(tmp_path / 'in', *flags)
    assert (status, report['faces']) == (0, 1)
    wrong, right = report['files']
    assert 'left and right are exchanged' in wrong['reason']
    (face,) = right['faces']
    np.testing.assert_allclose(face['landmarks'], 2 * points, atol=0.01)
    half = image_files.load_image(str(tmp_path / 'in' / 'b.jpg'))
    pasted = read(call.out / 'b_pasted.png')
    # Not enlarged: the face has 112 rows in the half, too.
    assert pasted.shape == half.shape == (150, 140, 3)
    assert (pasted[:5] == half[:5]).all() and not (pasted == half).all()


def test_one_face_of_several(call, tmp_path):
    save(tmp_path / 'photo.png', 150, 140)
    call.found += [detected(40, 30, 0.5), detected(5, 6)]
    _, report = call(tmp_path / 'photo.png', '--faces=largest')
    (face,) = report['files'][0]['faces']
    assert face['box'] == [5, 6, 96, 112]


def test_landmarks_instead_of_the_detector(call, tmp_path, monkeypatch):
    monkeypatch.delattr(detect, 'find_faces')
    for name in ('a.png', 'b.png'):
        save(tmp_path / 'in' / name, 150, 140)
    points = np.add(align.TEMPLATE, [20, 11])
    numbers = ' '.join(f'{value:.4f}' for value in points.ravel())
    (tmp_path / 'landmarks.txt').write_text(f'a.png {numbers}\n')
    status, report = call(tmp_path / 'in', f'--landmarks={tmp_path / "landmarks.txt"}')
    assert status == 0
    np.testing.assert_allclose(
        report['files'][0]['faces'][0]['landmarks'], points, atol=0.01
    )
    assert 'it is not in' in report['files'][1]['reason']


def test_compare(call, tmp_path, capsys):
    """Bicubic and the network against originals; one of them has none."""
    save(tmp_path / 'in' / 'a.png', 14, 12)
    save(tmp_path / 'in' / 'b.png', 14, 12)
    save(tmp_path / 'in' / 'c.png', 150, 140)
    call.found += [detected(5, 6)]
    save(tmp_path / 'hr' / 'a.bmp', 112, 96)
    save(tmp_path / 'hr' / 'c.png', 300, 280)
    _, report = call(tmp_path / 'in', f'--compare={tmp_path / "hr"}')
    assert set(report['measured']) == {'bicubic', 'sicnn'}
    assert set(report['measured']['sicnn']) == set(measuring.MEASURES)
    with_original = ['measured' in e['faces'][0] for e in report['files']]
    assert with_original == [True, False, True]
    assert 'identity sim.' in capsys.readouterr().out
    sheet = read(call.out / 'a_face0_compare.png')
    original = read(tmp_path / 'hr' / 'a.bmp')
    np.testing.assert_array_equal(sheet[16:128, 304:400], original)


def test_a_face_compared_with_itself_is_perfect(call, workdir, tmp_path):
    lr = save(tmp_path / 'in' / 'a.png', 14, 12)
    (tmp_path / 'hr').mkdir()
    Image.fromarray(Hallucinator(workdir)(lr[None])[0]).save(tmp_path / 'hr' / 'a.png')
    _, report = call(tmp_path / 'in', f'--compare={tmp_path / "hr"}')
    measured = report['measured']['sicnn']
    # Infinite, for which JSON has no number.
    assert measured['psnr'] is None
    assert measured['ssim'] == pytest.approx(1)
    assert measured['identity_similarity'] == pytest.approx(1)


def test_an_original_of_another_shape(call, tmp_path):
    save(tmp_path / 'in' / 'a.png', 14, 12)
    save(tmp_path / 'hr' / 'a.png', 50, 100)
    _, report = call(tmp_path / 'in', f'--compare={tmp_path / "hr"}')
    assert (
        'is 100×50; expected an aligned face of 96×112'
        in (report['files'][0]['reason'])
    )


def test_many_files_stay_in_order(call, tmp_path):
    for number in range(40):
        save(tmp_path / 'in' / f'{number:02d}.png', 14, 12)
    _, report = call(tmp_path / 'in')
    assert report['faces'] == 40
    assert [e['input'] for e in report['files']] == [f'{n:02d}.png' for n in range(40)]


def test_every_file_has_its_own_name(tmp_path):
    out = tmp_path / 'in' / 'out'
    for name in (
        'in/a.png',
        'in/a.jpg',
        'in/out/a_face0.png',
        'other/a.png',
    ):
        save(tmp_path / name, 14, 12)
    given = [tmp_path / 'in', tmp_path / 'other', tmp_path / 'other']
    jobs, passed_over, _ = list_jobs(given, out)
    assert passed_over.examples == {'folders of results': ['out']}
    assert [(job.key, job.name) for job in jobs] == [
        ('a.jpg', 'a'),
        ('a.png', 'a.png'),
        ('a.png', 'a.png_2'),
        ('a.png', 'a.png_3'),
    ]


def test_results_among_the_inputs_are_no_inputs(call, monkeypatch, capsys):
    """Run after run into the folder of the photographs, of all of it or of some."""

    def run(hallucinator, jobs, out, **options):
        for job in jobs:
            written = [f'{job.name}_face0.png', f'{job.name}_face0_compare.png']
            for name in written:
                save(out / name, 14, 12)
            yield {'input': job.key, 'faces': [{}], 'written': written}

    monkeypatch.setattr(photographs, 'run', run)
    network = types.SimpleNamespace(stage='untrained', scale=8)
    monkeypatch.setattr(hallucinate, 'Hallucinator', lambda *_, **options: network)
    folder = call.out
    save(folder / 'a.png', 14, 12)
    save(folder / 'sub' / 'b.png', 14, 12)
    for inputs, expected in (
        (['.'], ['a.png', 'sub/b.png']),
        (['.'], ['a.png', 'sub/b.png']),
        (['a.png', 'a_face0.png'], ['a.png']),
        (['sub'], ['b.png']),
        (['.'], ['a.png', 'sub/b.png']),
    ):
        status, report = call(*(folder / name for name in inputs))
        assert status == 0
        assert [entry['input'] for entry in report['files']] == expected
    # Those of a.png, of sub/b.png, and of b.png from inside of sub.
    assert report['passed_over'] == {'written by an earlier run': 7}
    assert report['written_before'] == ['b_face0.png', 'b_face0_compare.png']
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert '2 faces of 2 images; passed over: 7 written by an earlier run; wr' in last


def test_results_are_not_written_over_inputs(tmp_path):
    """A photograph that is called as a result would be is no result."""
    names = ('a.png', 'a_face0.png', 'b/c.jpg', 'b/c_pasted.png', 'd.png')
    for name in names:
        save(tmp_path / name, 14, 12)
    jobs, *_ = list_jobs([tmp_path], tmp_path)
    assert [job.name for job in jobs] == [
        *('a.png', 'a_face0', 'd', 'b/c.jpg', 'b/c_pasted')
    ]
    jobs, *_ = list_jobs([tmp_path], tmp_path / 'out')
    assert [job.name for job in jobs][:2] == ['a', 'a_face0']


@pytest.mark.parametrize(
    'text', ['', '[]', '{"files": 3}', '{"files": [{"written": {"a": 1}}, 4, null]}']
)
def test_reports_of_others(tmp_path, text):
    save(tmp_path / 'a.png', 14, 12)
    (tmp_path / 'report.json').write_text(text)
    jobs, passed_over, before = list_jobs([tmp_path], tmp_path)
    assert [job.key for job in jobs] == ['a.png'] and not before
    assert passed_over.counts == {'named .json': 1}


def test_links_do_not_lead_out(call, tmp_path):
    save(tmp_path / 'in' / 'sub' / 'a.png', 14, 12)
    (tmp_path / 'elsewhere').mkdir()
    call.out.mkdir()
    (call.out / 'sub').symlink_to(tmp_path / 'elsewhere')
    _, report = call(tmp_path / 'in')
    assert 'is outside of' in report['files'][0]['reason']
    assert files(tmp_path / 'elsewhere') == []


@pytest.mark.parametrize(
    'bad', ['--min_score=2', '--min_size=3', '--faces=best', '--compare=/missing']
)
def test_bad_arguments(call, tmp_path, bad):
    with pytest.raises(SystemExit) as stopped:
        call(tmp_path, bad)
    assert stopped.value.code == 2


def test_no_checkpoint(tmp_path, capsys):
    arguments = [str(tmp_path), '--checkpoint=/missing', f'--out={tmp_path / "out"}']
    assert hallucinate.main(arguments) == 1
    assert '/missing is neither a finished stage' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_without_the_detector(call, tmp_path, monkeypatch, capsys):
    def missing(photo, **options):
        raise detect.DetectorMissingError("pip install 'sicnn_jax[detect]'")

    monkeypatch.setattr(detect, 'find_faces', missing)
    save(tmp_path / 'photo.png', 150, 140)
    assert call(tmp_path / 'photo.png') == (1, None)
    assert 'sicnn_jax[detect]' in capsys.readouterr().err


def test_stopped_by_hand_it_reports_what_is_done(call, tmp_path, monkeypatch, capsys):
    for number in range(3):
        save(tmp_path / 'photos' / f'{number}.png', 14, 12)
    complete = photographs.run

    def stopped_after_two(*arguments, **options):
        entries = complete(*arguments, **options)
        yield next(entries)
        yield next(entries)
        raise KeyboardInterrupt

    monkeypatch.setattr(photographs, 'run', stopped_after_two)
    status, report = call(tmp_path / 'photos')
    assert status == 130
    assert [entry['input'] for entry in report['files']] == ['0.png', '1.png']
    assert '2 faces of 2 of 3 images' in capsys.readouterr().out
