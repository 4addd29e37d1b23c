import html.parser
import json
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
from PIL import Image

from sicnn_jax import checkpoint, images, inference, lock, models
from sicnn_jax.data import align, prepare, records, write_records
from sicnn_jax.data.preparing import convert, degraded, preparation, spool
from sicnn_jax.data.preparing.settings import Settings
from sicnn_jax.data.records import DatasetError, Face
from sicnn_jax.reports import dataset_page
from tests.data import damaged_photographs


def colour_image(colour, size=(120, 140)):
    """One colour in the middle; around it what no other image has."""
    rng = np.random.default_rng(np.frombuffer(repr(colour).encode(), np.uint8))
    blocks = Image.fromarray(rng.integers(0, 256, (14, 12, 3), np.uint8))
    image = blocks.resize(size, Image.Resampling.NEAREST)
    image.paste(colour, (30, 30, 90, 110))
    return image


@pytest.fixture
def source(tmp_path):
    """Six identities of two to four images; some files are not as they should be."""
    directory = tmp_path / 'photographs'
    for i in range(6):
        folder = directory / f'person_{i}'
        folder.mkdir(parents=True)
        for j in range(2 + i % 3):
            colour_image((40 * i, 60 * j, 99)).save(folder / f'{j}.png')
    (directory / 'person_0' / 'notes.txt').write_text('not an image')
    (directory / 'stray.png').write_bytes(b'')
    return directory


def run(source, out, *arguments):
    return prepare.main([f'--source={source}', f'--out={out}', *arguments])


def colours(directory, split):
    """The colour of each face by its key."""
    return {
        face.key: tuple(int(c) for c in records.decode_image(face.image)[50, 50])
        for face in records.read_faces(directory, split)
    }


def test_folder_to_data_set(source, tmp_path, capsys):
    out = tmp_path / 'out'
    assert run(source, out, '--test_identities=2') == 0
    info = records.read_dataset_info(out)
    train, test = info.split('train'), info.split('test')
    assert train.num_examples + test.num_examples == 18
    assert (train.num_identities, test.num_identities) == (4, 2)
    assert not set(train.identity_names) & set(test.identity_names)
    assert info.alignment == {'method': 'center_crop'}
    everything = {**colours(out, 'train'), **colours(out, 'test')}
    assert everything == {
        f'person_{i}/{j}.png': (40 * i, 60 * j, 99)
        for i in range(6)
        for j in range(2 + i % 3)
    }
    keys = records.read_keys(out, 'train')
    assert keys != sorted(keys)
    assert records.read_keys(out, 'test') == sorted(records.read_keys(out, 'test'))
    assert {face.source for face in records.read_faces(out, 'test')} == {'photographs'}
    report = json.loads((out / 'report.json').read_text())
    assert report['images'] == 18
    assert report['splits']['test'] == {'identities': 2, 'images': test.num_examples}
    assert report['skipped'] == []
    assert f'{out} written' in capsys.readouterr().out


def test_seed_fixes_choice_and_order(source, tmp_path):
    def names_and_keys(seed, name):
        prepare.prepare(
            source, tmp_path / name, Settings(test_identities=0.34, seed=seed)
        )
        info = records.read_dataset_info(tmp_path / name)
        return info.split('test').identity_names, records.read_keys(
            tmp_path / name, 'train'
        )

    first = names_and_keys(1, 'a')
    assert len(first[0]) == 2
    assert names_and_keys(1, 'b') == first
    assert names_and_keys(2, 'c') != first


def test_test_list_and_rare_identities(source, tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('person_0\n\nperson_4\n')
    out = tmp_path / 'out'
    report = prepare.prepare(source, out, Settings(test_list=names, min_images=3))
    info = records.read_dataset_info(out)
    # person_0 and person_3 have two images; the list is not asked how many.
    assert info.split('test').identity_names == ('person_0', 'person_4')
    assert info.split('train').identity_names == ('person_1', 'person_2', 'person_5')
    assert report['skipped'] == [
        {'file': f'person_3/{j}.png', 'reason': 'identity has too few images: 2 of 3'}
        for j in range(2)
    ]


def test_only_test_identities(source, tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(f'person_{i}' for i in range(6)))
    prepare.prepare(source, tmp_path / 'out', Settings(test_list=names))
    assert set(records.read_dataset_info(tmp_path / 'out').splits) == {'test'}


def test_broken_and_small_files_are_skipped_and_reported(source, tmp_path):
    whole = (source / 'person_1' / '0.png').read_bytes()
    (source / 'person_1' / 'cut.png').write_bytes(whole[: len(whole) // 2])
    (source / 'person_1' / 'empty.jpg').write_bytes(b'')
    (source / 'person_1' / 'text.bmp').write_text('hello')
    colour_image('red', (30, 90)).save(source / 'person_1' / 'small.webp')
    # Three images, of which one can be used.
    (source / 'person_0' / '0.png').write_bytes(b'')
    (source / 'person_0' / '2.png').write_bytes(b'')
    out = tmp_path / 'out'
    report = prepare.prepare(source, out, Settings(min_images=2, min_size=40))
    reasons = {entry['file']: entry['reason'] for entry in report['skipped']}
    assert report['skipped_by_reason'] == {
        'unreadable': 5,
        'too small': 1,
        'identity has too few images': 1,
    }
    for name in ('cut.png', 'empty.jpg', 'text.bmp'):
        assert reasons[f'person_1/{name}'].startswith('unreadable: ')
        assert name in reasons[f'person_1/{name}']
    assert reasons['person_1/small.webp'] == 'too small: 90×30 (height×width)'
    assert reasons['person_0/1.png'] == 'identity has too few images: 1 of 2'
    assert json.loads((out / 'report.json').read_text()) == report
    assert len(colours(out, 'train')) == 16
    assert (
        'person_0' not in records.read_dataset_info(out).split('train').identity_names
    )


def test_landmarks_align(source, tmp_path):
    """White discs where the landmarks are come to lie on the template."""
    angle, scale = 0.3, 1.7
    linear = scale * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    points = np.array(align.TEMPLATE) @ linear.T + [70, 20]
    image = np.zeros((300, 320, 3), np.uint8)
    y, x = np.mgrid[:300, :320]
    for px, py in points:
        image[(x - px) ** 2 + (y - py) ** 2 < 5**2] = 255
    Image.fromarray(image).save(source / 'person_2' / '0.png')
    landmarks = tmp_path / 'landmarks.txt'
    numbers = '\t'.join(f'{v:.3f}' for v in points.ravel())
    landmarks.write_text(f'person_2/0.png\t{numbers}\nperson_2/1.png{" 1" * 10}\n')
    out = tmp_path / 'out'
    report = prepare.prepare(
        source, out, Settings(landmarks=landmarks, encoding='jpeg')
    )
    (face,) = records.read_faces(out, 'train')
    assert face.key == 'person_2/0.png'
    for px, py in align.TEMPLATE:
        assert records.decode_image(face.image)[round(py), round(px)].min() > 220
    info = records.read_dataset_info(out)
    assert info.encoding == 'jpeg'
    assert info.alignment['method'] == 'similarity'
    assert info.alignment['template'] == [list(point) for point in align.TEMPLATE]
    assert report['skipped_by_reason'] == {
        'no landmarks': 16,
        'impossible landmarks': 1,
    }


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--source=/nowhere'], '/nowhere does not exist; expected one of'),
        (['--landmarks=/nowhere.txt'], r'/nowhere.txt cannot be read'),
        (['--test_list=/nowhere.txt'], r'/nowhere.txt cannot be read'),
        (['--test_identities=6'], 'leaves no identity for training: there are 6'),
        (['--min_size=999'], 'None of the images of'),
        (['--rotations'], 'rotations needs detect'),
        (['--identity=label'], "identity is 'label', a feature of a TFDS data set"),
    ],
)
def test_failures_exit_with_1_and_a_message(
    source, tmp_path, capsys, arguments, message
):
    out = tmp_path / 'out'
    assert run(source, out, *arguments) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_wrong_flags_exit_with_2(source, tmp_path, capsys):
    for flag in (
        '--test_identities=1.5',
        '--test_identities=-1',
        '--encoding=gif',
        '--workers=-1',
        '--out=gs://bucket/faces',
    ):
        with pytest.raises(SystemExit) as caught:
            run(source, tmp_path / 'out', flag)
        assert caught.value.code == 2
    assert '1.5' in capsys.readouterr().err


def test_folders_of_splits(tmp_path, capsys):
    """The last line says what is not in them; splits are kept."""
    for split in ('train', 'val'):
        for name in (f'{split}_a', f'{split}_b'):
            folder = tmp_path / 'in' / split / name
            folder.mkdir(parents=True)
            colour_image((99, len(name), 7)).save(folder / '0.png')
    (tmp_path / 'in' / 'list.txt').write_text('')
    out = tmp_path / 'out'
    assert run(tmp_path / 'in', out, '--workers=1', '--duplicate_bits=-1') == 0
    assert sorted(colours(out, 'test')) == ['val/val_a/0.png', 'val/val_b/0.png']
    assert len(colours(out, 'train')) == 2
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert '; passed over: 1 named .txt; details in report.html there.' in last
    arguments = ('--overwrite', '--test_identities=1')
    assert run(tmp_path / 'in', out, *arguments) == 1
    assert 'has its own splits, test, train' in capsys.readouterr().err


def test_no_workers_are_refused_before_anything_is_made(source, tmp_path):
    with pytest.raises(DatasetError, match='workers is -1; expected 1 or more'):
        prepare.prepare(source, tmp_path / 'out', workers=-1)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_names_of_a_test_list_may_be_spelled_otherwise(tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('Beyonc\u00e9\n', encoding='utf-8')
    apart = 'Beyonce\u0301'
    found = preparation._read_test_list(Settings(test_list=names), [apart, 'x'], 'x')
    assert found == {apart}


def test_source_without_images(tmp_path, capsys):
    (tmp_path / 'source').mkdir()
    assert run(tmp_path / 'source', tmp_path / 'out') == 1
    assert 'one folder per identity' in capsys.readouterr().err


def test_unknown_names_and_foreign_landmarks(source, tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('person_0\nsomebody\n')
    with pytest.raises(DatasetError, match="'somebody'"):
        prepare.prepare(source, tmp_path / 'out', Settings(test_list=names))
    names.write_text(f'photographs/person_0/0.png{" 1" * 10}')
    with pytest.raises(DatasetError, match='Paths must be relative to the source'):
        prepare.prepare(source, tmp_path / 'out', Settings(landmarks=names))


def test_overwriting_is_asked_for(source, tmp_path, capsys):
    out = tmp_path / 'out'
    assert run(source, out) == 0
    assert run(source, out) == 1
    assert 'not empty' in capsys.readouterr().err
    assert run(source, out, '--overwrite', '--encoding=jpeg') == 0
    assert records.read_dataset_info(out).encoding == 'jpeg'
    assert run(source, source / 'stray.png') == 1


def test_a_second_run_is_told_of_the_first(source, tmp_path, capsys):
    with lock.hold(tmp_path / '.out.unfinished'):
        assert run(source, tmp_path / 'out') == 1
    assert 'is in use by another run: process' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_help(capsys):
    with pytest.raises(SystemExit):
        prepare.main(['--help'])
    printed = capsys.readouterr().out
    assert 'python -m sicnn_jax.data.prepare --source' in printed
    assert '--test_list FILE' in printed


def test_faces_that_would_be_enlarged(source, tmp_path):
    """`min_height` counts rows of the photograph, by whichever way faces are placed."""
    image = colour_image('white', (300, 300))
    image.save(source / 'person_0' / '0.png')
    image.resize((100, 111)).save(source / 'person_1' / '0.png')
    lines = ''
    for key, scale in (('person_0/0.png', 1.01), ('person_0/1.png', 0.99)):
        points = np.array(align.TEMPLATE) * scale + 5
        lines += f'{key} {" ".join(f"{v:.3f}" for v in points.ravel())}\n'
    (tmp_path / 'landmarks.txt').write_text(lines)
    out = tmp_path / 'out'
    report = prepare.prepare(source, out, Settings(min_height=112))
    assert report['skipped'] == [
        {
            'file': 'person_1/0.png',
            'reason': 'too small: the face is 111.0 pixels high, of 112',
        }
    ]
    report = prepare.prepare(
        source,
        out,
        Settings(min_height=112, landmarks=tmp_path / 'landmarks.txt'),
        overwrite=True,
    )
    assert records.read_keys(out, 'train') == ['person_0/0.png']
    assert report['skipped'][0]['reason'].startswith('too small: the face is 110.9')
    assert report['face_height']['median'] == pytest.approx(113.1, abs=0.1)


def add_copies(source):
    """In person_5, copies of images of person_0; returns their keys."""
    with Image.open(source / 'person_0' / '0.png') as image:
        image.save(source / 'person_5' / 'again.jpg', quality=80)
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((240, 280)).save(
            source / 'person_5' / 'mirrored.png'
        )
    return ['person_5/again.jpg', 'person_5/mirrored.png']


def test_copies_of_test_faces_are_not_for_training(source, tmp_path):
    copies = add_copies(source)
    names = tmp_path / 'names.txt'
    names.write_text('person_0')
    report = prepare.prepare(source, tmp_path / 'a', Settings(test_list=names))
    assert [entry['file'] for entry in report['skipped']] == copies
    for entry in report['skipped']:
        assert re.fullmatch(
            r'duplicate: of person_0/0\.png, \d+ bits away', entry['reason']
        )
    assert not set(copies) & set(records.read_keys(tmp_path / 'a', 'train'))
    report = prepare.prepare(
        source, tmp_path / 'b', Settings(test_list=names, duplicate_bits=-1)
    )
    assert report['skipped'] == []


def test_too_few_images_after_copies_are_gone(source, tmp_path):
    copies = add_copies(source)
    names = tmp_path / 'names.txt'
    names.write_text('person_0')
    report = prepare.prepare(
        source, tmp_path / 'out', Settings(test_list=names, min_images=5)
    )
    reasons = {entry['file']: entry['reason'] for entry in report['skipped']}
    assert all(reasons[key].startswith('duplicate') for key in copies)
    assert reasons['person_5/0.png'] == 'identity has too few images: 4 of 5'
    assert set(report['splits']) == {'test'}


def test_whom_other_sets_test_is_not_for_training(source, tmp_path):
    copies = add_copies(source)
    other = tmp_path / 'other'
    for name in ('Person 0', 'somebody'):
        (other / name).mkdir(parents=True)
    for j in range(2):
        data = (source / 'person_0' / f'{j}.png').read_bytes()
        (other / 'Person 0' / f'{j}.png').write_bytes(data)
    colour_image('black').save(other / 'somebody' / '0.png')
    prepare.prepare(other, tmp_path / 'set')
    (tmp_path / 'names.txt').write_text('PERSON_3\n')
    out = tmp_path / 'out'
    arguments = (f'--exclude={tmp_path / "set"}', f'--exclude={tmp_path / "names.txt"}')
    assert run(source, out, *arguments) == 0
    report = json.loads((out / 'report.json').read_text())
    reasons = {entry['file']: entry['reason'] for entry in report['skipped']}
    assert reasons.pop('person_0/0.png') == (
        f'identity is excluded: person_0 is in {tmp_path / "set"}'
    )
    assert reasons['person_3/1.png'].endswith(f'person_3 is in {tmp_path}/names.txt')
    assert reasons[copies[0]].startswith(
        f'duplicate: of {tmp_path / "set"}: Person 0/0.png'
    )
    assert report['skipped_by_reason'] == {'identity is excluded': 4, 'duplicate': 2}


def test_report_is_one_page(source, tmp_path):
    name = '<script>alert(1)'
    (source / name).mkdir()
    colour_image('green').save(source / name / '0.png')
    (source / 'person_1' / '0.png').write_bytes(b'')
    out = tmp_path / 'out'
    report = prepare.prepare(source, out, Settings(test_identities=2))
    page = (out / 'report.html').read_text()
    asked_for, counts = [], {}

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            counts[tag] = counts.get(tag, 0) + 1
            asked_for.extend(
                value for name, value in attributes if name in ('src', 'href')
            )

    Parser().feed(page)
    (sheet,) = asked_for
    assert sheet.startswith('data:image/jpeg;base64,')
    assert counts['svg'] == 3
    assert 'script' not in counts
    assert 'person_1/0.png' in page
    assert '1 unreadable' in page
    counted = report['images_per_identity']
    assert {split: sum(found.values()) for split, found in counted.items()} == {
        split: found['images'] for split, found in report['splits'].items()
    }
    assert report['passed_over'] == {
        'named .txt': 1,
        'beside the folders of people': 1,
    }
    assert '<td><code>1 named .txt</code></td><td><code>person_0/notes.txt<' in page


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_interrupted_runs_go_on(source, tmp_path, monkeypatch):
    """With the same bytes in the end, and without converting anything twice."""
    monkeypatch.setattr(spool, 'CHUNK', 4)
    prepare.prepare(source, tmp_path / 'whole' / 'out', Settings(test_identities=2))
    converted = []
    real = convert.Convert._convert

    def interrupted_at(count):
        def convert_one(self, photograph):
            if len(converted) == count:
                raise KeyboardInterrupt
            converted.append(photograph.key)
            return real(self, photograph)

        return convert_one

    out = tmp_path / 'out'
    arguments = (source, out, '--test_identities=2', '--workers=1')
    for count in (2, 10):
        monkeypatch.setattr(convert.Convert, '_convert', interrupted_at(count))
        assert run(*arguments) == 130
        assert not out.exists()
    with pytest.raises(DatasetError, match=r'min_size was 0 and is 3.*same settings'):
        prepare.prepare(source, out, Settings(min_size=3))
    # What was half written, and what a power failure may leave.
    unfinished = tmp_path / '.out.unfinished'
    (unfinished / '00000.faces').write_bytes(b'')
    (unfinished / '00003.json.99').write_bytes(b'[')
    monkeypatch.setattr(convert.Convert, '_convert', interrupted_at(None))
    assert run(*arguments) == 0
    assert len(converted) == 10 + 18 - 8 + 4
    assert not unfinished.exists()
    assert contents(out) == contents(tmp_path / 'whole' / 'out')


def test_interrupted_while_publishing(source, tmp_path, monkeypatch):
    """A data set without its report is not finished, and not in the way."""
    out = tmp_path / 'out'
    real = dataset_page.write_report

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset_page, 'write_report', interrupt)
    assert run(source, out) == 130
    monkeypatch.setattr(dataset_page, 'write_report', real)
    assert run(source, out) == 0
    assert (out / 'report.json').exists()
    assert run(source, out) == 1


def test_killed_runs_go_on(source, tmp_path):
    """Killed by a signal with processes at work; none of them outlives it."""
    folder = source / 'person_0'
    for i in range(600):
        (folder / f'more_{i}.png').write_bytes((folder / '0.png').read_bytes())
    out, whole = tmp_path / 'out', tmp_path / 'whole' / 'out'
    command = [sys.executable, '-m', 'sicnn_jax.data.prepare', f'--source={source}']
    command += ['--workers=2', f'--out={out}', '--min_size=20']
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    unfinished = tmp_path / '.out.unfinished'
    deadline = time.monotonic() + 60
    while not list(unfinished.glob('0*.json')) and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert workers
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
    assert not out.exists()
    prepare.prepare(source, out, Settings(min_size=20), workers=1)
    report = prepare.prepare(source, whole, Settings(min_size=20), workers=1)
    assert report['splits']['train']['images'] == 618
    assert contents(out) == contents(whole)


def children(pid):
    return [
        int(path.parent.name)
        for path in pathlib.Path('/proc').glob('[0-9]*/stat')
        if is_child(path, pid)
    ]


def is_child(path, pid):
    try:
        return path.read_text().rpartition(')')[2].split()[1] == str(pid)
    except OSError:
        return False


def is_running(pid):
    try:
        state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
        return False
    return state[0] != 'Z'


def test_damaged_photographs(tmp_path):
    result = damaged_photographs.run(tmp_path, damaged=45, good=20)
    assert len(result) == 11
    for kind, row in result.items():
        assert damaged_photographs.is_right(kind, row), (kind, row)


def our_set(directory, counts=(5, 3)):
    rng = np.random.default_rng(0)

    def faces(split, count):
        for i in range(count):
            image = rng.integers(0, 256, (14, 12, 3), np.uint8)
            image = Image.fromarray(image).resize((96, 112), Image.BICUBIC)
            yield Face(np.asarray(image), f'{split}_{i % 2}', f'{split}/{i}')

    splits = {'train': faces('train', counts[0]), 'test': faces('test', counts[1])}
    write_records.write_dataset(
        directory,
        splits,
        alignment={'method': 'similarity'},
        identities={
            'train': ['train_1', 'nobody', 'train_0'],
            'test': ['test_0', 'test_1'],
        },
    )


def test_degrade_keeps_labels_and_splits(tmp_path):
    our_set(tmp_path / 'set')
    out = tmp_path / 'out'
    assert run(tmp_path / 'set', out, '--degrade=8') == 0
    info = records.read_dataset_info(out)
    assert info.split('train').identity_names == ('train_1', 'nobody', 'train_0')
    assert info.split('test').identity_names == ('test_0', 'test_1')
    assert info.alignment == {
        'of': {'method': 'similarity'},
        'scale': 8,
        'degradation': 'bicubic',
        'enlarged_by': 'bicubic',
    }
    for split in ('train', 'test'):
        before = list(records.read_faces(tmp_path / 'set', split))
        after = list(records.read_faces(out, split))
        assert [face.key for face in after] == [face.key for face in before]
        hr = np.stack([records.decode_image(face.image) for face in before])
        sr = np.stack([records.decode_image(face.image) for face in after])
        np.testing.assert_array_equal(sr, images.enlarge(images.degrade(hr, scale=8)))


def test_degrade_and_super_resolve(tmp_path):
    our_set(tmp_path / 'set')
    fields = {'width': 3, 'growth': 2, 'depth': 1, 'deconv_width': 3}
    cnnh = models.CNNH(scale=4, **fields)
    lr = np.zeros((1, 28, 24, 3), np.float32)
    params = jax.tree.map(
        lambda leaf: np.full(leaf.shape, 0.03, leaf.dtype),
        jax.eval_shape(cnnh.init, jax.random.key(0), lr)['params'],
    )
    record = {
        'scale': 4,
        'degradation': 'area',
        'convention': images.CONVENTION,
        'models': {'cnnh': fields},
    }
    stage = tmp_path / 'stage'
    checkpoint.save_networks(stage, {'cnnh': params}, record)
    options = {'degrade': 4, 'checkpoint': stage}
    with pytest.raises(DatasetError, match="degradation = 'area'; expected"):
        prepare.prepare(tmp_path / 'set', tmp_path / 'out', Settings(**options))
    prepare.prepare(
        tmp_path / 'set', tmp_path / 'out', Settings(degradation='area', **options)
    )
    info = records.read_dataset_info(tmp_path / 'out')
    assert info.alignment['enlarged_by'] == str(stage)
    hr, sr = (
        np.stack(
            [
                records.decode_image(face.image)
                for split in ('train', 'test')
                for face in records.read_faces(tmp_path / name, split)
            ]
        )
        for name in ('set', 'out')
    )
    lr = inference.degrade_faces(hr, scale=4, kind='area')
    expected = inference.super_resolve(cnnh, params, lr)
    # Another program for the same, which may round differently here and there.
    np.testing.assert_allclose(sr, expected.astype(int), atol=1)
    assert np.mean(sr != expected) < 1e-3


def test_degrade_is_asked_of_our_sets_alone(source, tmp_path, capsys):
    assert run(source, tmp_path / 'out', '--degrade=8') == 1
    assert 'is not a data set that this command wrote' in capsys.readouterr().err
    our_set(tmp_path / 'set')
    assert run(tmp_path / 'set', tmp_path / 'out', '--degrade=8', '--detect') == 1
    assert 'leave out' in capsys.readouterr().err
    arguments = ('--degrade=8', f'--checkpoint={tmp_path}')
    assert run(tmp_path / 'set', tmp_path / 'out', *arguments) == 1
    assert 'expected the networks of a finished stage' in capsys.readouterr().err


def test_degrade_reads_no_files():
    photographs = [convert.Photograph('a/0.png', 'photographs/a/0.png')]
    with pytest.raises(DatasetError, match=r'a/0\.png is not in a data set'):
        degraded.Degrade(8)(photographs)


def test_splits_of_a_source_are_kept(tmp_path, capsys):
    our_set(tmp_path / 'set')
    assert run(tmp_path / 'set', tmp_path / 'out', '--min_images=3') == 0
    info = records.read_dataset_info(tmp_path / 'out')
    assert info.alignment == {'method': 'similarity'}
    # train_1 has two images; test_1 has one, and stays.
    assert info.split('train').identity_names == ('nobody', 'train_0')
    assert info.split('test').identity_names == ('test_0', 'test_1')
    assert records.read_keys(tmp_path / 'out', 'train') == [
        'train/0',
        'train/2',
        'train/4',
    ]
    assert run(tmp_path / 'set', tmp_path / 'x', '--test_identities=1') == 1
    assert 'has its own splits, test, train' in capsys.readouterr().err


def test_verification_set(tmp_path):
    """Faces of 112×112, aligned by the same points, lose eight columns a side."""
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (4, 112, 112, 3), np.uint8)
    content = []
    for face in faces:
        path = tmp_path / 'face.png'
        Image.fromarray(face).save(path)
        content.append(path.read_bytes())
    (tmp_path / 'lfw.bin').write_bytes(pickle.dumps((content, [True, False])))
    prepare.prepare(tmp_path / 'lfw.bin', tmp_path / 'out')
    found = list(records.read_faces(tmp_path / 'out', 'test'))
    assert [face.name[:11] for face in found] == ['pair_000000'] * 2 + [
        'pair_000001'
    ] * 2
    for face, original in zip(found, faces, strict=True):
        np.testing.assert_array_equal(
            records.decode_image(face.image), original[:, 8:-8]
        )


def test_detected_faces(source, tmp_path, monkeypatch, capsys):
    """Those that the detector finds and chooses; numbered from the second on."""
    template = np.array(align.TEMPLATE)

    def find_faces(image, rotations):
        assert not rotations
        if image[60, 60, 1] == 0:
            return []
        return [template, template * 0.5 + 40, template * 0.1]

    def choose(found, which, image_shape):
        assert image_shape == (140, 120, 3)
        return [
            types.SimpleNamespace(landmarks=points)
            for points in (found if which == 'all' else found[:1])
        ]

    detect = types.SimpleNamespace(find_faces=find_faces, choose=choose)
    monkeypatch.setitem(sys.modules, 'sicnn_jax.data.detect', detect)
    monkeypatch.setattr('sicnn_jax.data.detect', detect, raising=False)
    arguments = ('--detect', '--faces=all', '--workers=1')
    assert run(source, tmp_path / 'all', *arguments) == 0
    assert 'no face (none that is upright; --rotations' in capsys.readouterr().out
    keys = records.read_keys(tmp_path / 'all', 'train')
    # The third of each photograph has 11 rows.
    assert set(keys) == {
        f'person_{i}/{j}.png{number}'
        for i in range(6)
        for j in range(1, 2 + i % 3)
        for number in ('', '#1')
    }
    report = prepare.prepare(source, tmp_path / 'one', Settings(detect=True))
    assert report['skipped_by_reason'] == {'no face': 6}
    assert report['splits']['train']['images'] == 12
    alignment = records.read_dataset_info(tmp_path / 'one').alignment
    assert alignment['detector'] == 'mtcnn'


def test_contradicting_ways_to_align(source, tmp_path):
    for arguments, message in (
        ({'detect': True, 'landmarks': 'x.txt'}, 'Both landmarks and detect'),
        ({'faces': 'all'}, '`largest` without detect'),
        ({'faces': 'smallest', 'detect': True}, "faces is 'smallest'"),
    ):
        with pytest.raises(DatasetError, match=message):
            prepare.prepare(source, tmp_path / 'out', Settings(**arguments))
    with pytest.raises(DatasetError, match="runner is 'dask'; expected beam:RUNNER"):
        prepare.prepare(source, tmp_path / 'out', runner='dask')


def test_beam_writes_the_same(source, tmp_path, monkeypatch, capsys):
    pytest.importorskip('apache_beam')
    monkeypatch.setattr(spool, 'CHUNK', 4)
    assert run(source, tmp_path / 'a' / 'out', '--runner=beam:DirectRunner') == 0
    assert run(source, tmp_path / 'b' / 'out', '--workers=1') == 0
    assert contents(tmp_path / 'a' / 'out') == contents(tmp_path / 'b' / 'out')


def test_beam_reads_files_alone(tmp_path, capsys):
    our_set(tmp_path / 'set')
    assert run(tmp_path / 'set', tmp_path / 'out', '--runner=beam:DirectRunner') == 1
    assert 'can only be read in order' in capsys.readouterr().err
