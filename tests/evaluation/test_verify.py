"""Verification of sets on disk by tiny networks."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from sicnn_jax.data import records
from sicnn_jax.data.align import TEMPLATE
from sicnn_jax.data.records import Face
from sicnn_jax.evaluation import features, verify
from sicnn_jax.evaluation.judge import Judge, load_judge
from sicnn_jax.evaluation.pairs import Pair, PairIndices, VerificationSet
from sicnn_jax.evaluation.verification_sets import Album, find_images, open_set
from sicnn_jax.evaluation.verification_text import format_verification
from sicnn_jax.metrics import verify as verify_pairs

PEOPLE = ['Ann', 'Bob', 'Cid', 'Dot', 'Eve', 'Flo', 'Gus', 'Hal']


def person(name, noise, size=(112, 96)):
    """A face whose red is the person, and whose green and blue are not."""
    pattern = np.random.default_rng(list(name.encode())).integers(0, 256, (14, 12))
    rng = np.random.default_rng([*name.encode(), noise])
    face = rng.integers(0, 256, (14, 12, 3))
    face[..., 0] = np.clip(pattern + rng.normal(0, 20, (14, 12)), 0, 255)
    large = face.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    wider = [
        ((total - side) // 2,) * 2 for total, side in zip(size, (112, 96), strict=True)
    ]
    return np.pad(large, [*wider, (0, 0)])


def save(path, face):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(face).save(path)


def red(faces):
    """Features: means of red blocks, from their middle."""
    blocks = faces[..., 0].reshape(len(faces), 14, 8, 12, 8).mean((2, 4))
    return blocks.reshape(len(faces), -1) - 127.5


def judge_of(mirrored=True):
    def describe(faces):
        alone = red(faces)
        if not mirrored:
            return alone, alone
        return alone, np.concatenate([alone, red(faces[:, :, ::-1])], axis=1)

    return Judge('red', describe, mirrored=mirrored)


def methods(hr):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 240, (len(hr), 14, 12, 3), np.uint8)
    noisy = hr // 16 + noise.repeat(8, axis=1).repeat(8, axis=2)
    return {'lr': hr[:, ::8, ::8], 'bicubic': noisy, 'sicnn': hr, 'hr': hr}


def write_onnx(path, channel):
    """A network whose features are the means of 8×8 blocks of a channel."""
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from onnx import TensorProto, helper

    def floats(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    pool = {'kernel_shape': [8, 8], 'strides': [8, 8]}
    graph = helper.make_graph(
        [
            helper.make_node('Gather', ['faces', 'channel'], ['one'], axis=1),
            helper.make_node('AveragePool', ['one'], ['blocks'], **pool),
            helper.make_node('Flatten', ['blocks'], ['features']),
        ],
        'blocks',
        [floats('faces', ['n', 3, 112, 96])],
        [floats('features', ['n', 'd'])],
        [helper.make_tensor('channel', TensorProto.INT64, [1], [channel])],
    )
    opset = [helper.make_opsetid('', 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.fixture
def lfw(tmp_path):
    """Four folds as LFW's: pairs.txt and a folder of images."""
    lines = ['4\t2']
    for fold in range(4):
        first, second = PEOPLE[2 * fold : 2 * fold + 2]
        lines += [f'{name}\t1\t2' for name in (first, second)]
        lines += [f'{first}\t{n}\t{second}\t{n}' for n in (1, 2)]
    for name in PEOPLE:
        for n in (1, 2):
            save(tmp_path / f'images/{name}/{name}_{n:04d}.jpg', person(name, n))
    path = tmp_path / 'pairs.txt'
    path.write_text('\n'.join(lines))
    return path, tmp_path / 'images'


def test_lfw_in_one_table(lfw, capsys):
    path, images = lfw
    results = verify.verify_methods(path, [judge_of()], methods, scale=8, images=images)
    assert [row['method'] for row in results['rows']] == ['hr', 'bicubic', 'sicnn']
    hr, bicubic, sicnn = results['rows']
    assert hr['accuracy'] == hr['auc'] == 1 and hr['eer'] == 0
    assert hr['tar_at_far'] == {'0.1': 1, '0.01': 1, '0.001': 1, '0.0001': 1}
    assert bicubic['auc'] < 1
    assert {**sicnn, 'method': 'hr', 'published': 0.9948} == hr
    assert (results['set'], results['pairs_used'], results['missing']) == (
        'lfw',
        16,
        [],
    )
    printed = capsys.readouterr().out
    assert '16 of 16 pairs are used' in printed
    assert 'red verifies 100.0% of the pairs of originals.' in printed
    table = format_verification(results)
    for text in ('published', '98.25%', '8 different pairs', 'by red', 'TAR at FAR'):
        assert text in table
    json.dumps(results)


def test_folds_and_reported_folds(lfw):
    path, images = lfw

    def results(**folds):
        return verify.verify_methods(
            path, [judge_of()], methods, scale=8, images=images, **folds
        )

    chosen = results(folds=(2, 3), report=(3,))
    assert chosen['pairs_listed'] == 8 and chosen['pairs_reported'] == 4
    assert (chosen['folds'], chosen['folds_reported']) == ([2, 3], [3])
    assert chosen['images_used'] == 8
    assert len(chosen['rows'][1]['fold_accuracies']) == 1
    with pytest.raises(ValueError, match='two or more'):
        results(folds=(2,))
    with pytest.raises(ValueError, match='names fold 9'):
        results(report=(9,))


def test_missing_images_are_listed(lfw, capsys):
    path, images = lfw
    (images / 'Ann/Ann_0001.jpg').unlink()
    (images / 'Hal/Hal_0002.jpg').write_bytes(b'no image')
    results = verify.verify_methods(path, [judge_of()], methods, scale=8, images=images)
    missing = {entry['image']: entry['why'] for entry in results['missing']}
    assert set(missing) == {'Ann/Ann_0001.jpg', 'Hal/Hal_0002.jpg'}
    assert 'cannot be read as an image' in missing['Hal/Hal_0002.jpg']
    # Each is in two pairs.
    assert results['pairs_used'] == 12 and results['images_used'] == 14
    printed = capsys.readouterr().out
    assert '12 of 16 pairs are used' in printed
    assert '2 images or videos are missing' in printed and 'Ann_0001' in printed


def test_what_is_missing_is_written_before_it_fails(lfw, tmp_path, capsys):
    path, images = lfw
    file = tmp_path / 'run' / 'missing.json'

    def run(where):
        return verify.verify_methods(
            path, [judge_of()], methods, scale=8, images=where, missing_file=file
        )

    with pytest.raises(ValueError, match='None of the pairs'):
        run(images / 'nowhere')
    assert f'and 6 more (all in {file})' in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written['pairs_file'] == str(path)
    assert len(written['missing']) == 16
    assert written['missing'][0] == {'image': 'Ann/Ann_0001.jpg', 'why': 'not there'}
    # That of an earlier list would mislead.
    run(images)
    assert not file.exists()


def test_lfw_may_be_png(lfw, tmp_path):
    """With landmarks that name the files, or as the list does; also in shards."""
    path, images = lfw
    keys = [f'{name}/{name}_{n:04d}' for name in PEOPLE for n in (1, 2)]
    for key in keys:
        face = Image.open(images / f'{key}.jpg')
        face.save(images / f'{key}.PNG', 'png')
        (images / f'{key}.jpg').unlink()
    landmarks = tmp_path / 'landmarks.txt'
    for suffix in ('.PNG', '.jpg'):
        points = ' '.join(map(str, np.ravel(TEMPLATE)))
        landmarks.write_text(''.join(f'{key}{suffix} {points}\n' for key in keys))
        results = verify.verify_methods(
            path, [judge_of()], methods, scale=8, images=images, landmarks=landmarks
        )
        assert results['pairs_used'] == 16 and not results['missing']
    rows = tmp_path / 'pairs.csv'
    rows.write_text('path_a,path_b,same\nAnn/Ann_0001.jpg,Bob/Bob_0001.jpg,0\n')
    _, missing, _ = find_images(open_set(rows), ['Ann/Ann_0001.jpg'], images)
    # A list that says what files are called means it.
    assert missing == {'Ann/Ann_0001.jpg': 'not there, but Ann_0001.PNG is'}


def test_lfw_in_shards_of_png(lfw, monkeypatch):
    path, _ = lfw
    keys = ['Ann/Ann_0001.png', 'Ann/Ann_0002.png', 'Ann/Ann_0002.jpg', 'Zoe/1.png']
    faces = [Face(key.encode(), key[:3], key) for key in keys]
    monkeypatch.setattr(records, 'read_faces', lambda data, split: iter(faces))
    found = open_set(path, 'shards')
    assert found.images == {
        'Ann/Ann_0001.jpg': b'Ann/Ann_0001.png',
        'Ann/Ann_0002.jpg': b'Ann/Ann_0002.jpg',
    }


def test_images_are_found_however_a_list_spells_them(tmp_path):
    apart, composed = 'e\u0301.png', '\u00e9.png'
    (tmp_path / apart).touch()
    pairs = [Pair(composed, 'not-there.png', True, 0)]
    found, missing, _ = find_images(
        VerificationSet('csv', pairs), [composed, 'not-there.png'], tmp_path
    )
    assert [(one.key, one.content) for one in found] == [
        (composed, str(tmp_path / apart))
    ]
    assert missing == {'not-there.png': 'not there'}
    (tmp_path / 'pairs.csv').write_text(
        f'path_a,path_b,same\nhttps://x/a.png,{apart},1\n'
    )
    listed = open_set(tmp_path / 'pairs.csv')
    with pytest.raises(ValueError, match='download the files of the list'):
        find_images(listed, ['https://x/a.png'], tmp_path)


def test_landmarks_bring_faces_into_place(lfw):
    path, images = lfw
    landmarks = images.parent / 'landmarks.txt'
    offset = np.array([20, 30])
    with landmarks.open('w') as file:
        for name in PEOPLE[:7]:
            for n in (1, 2):
                key = f'{name}/{name}_{n:04d}.jpg'
                photo = np.zeros((200, 180, 3), np.uint8)
                photo[30:142, 20:116] = np.asarray(Image.open(images / key))
                save(images / key, photo)
                points = (np.array(TEMPLATE) + offset).ravel()
                file.write(' '.join([key, *map(str, points)]) + '\n')
    results = verify.verify_methods(
        path, [judge_of()], methods, scale=8, images=images, landmarks=landmarks
    )
    assert results['rows'][0]['accuracy'] == 1
    assert {entry['why'] for entry in results['missing']} == {'no landmarks'}
    assert len(results['missing']) == 2


def test_youtube_faces(tmp_path):
    lines = ['split number, first name, second name, is same']
    for split in range(4):
        first, second = PEOPLE[2 * split : 2 * split + 2]
        for name in (first, second):
            lines.append(f'{split + 1}, {name}/0, {name}/1, 1')
            lines.append(f'{split + 1}, {first}/{name == first:d}, {second}/0, 0')
            for video in range(2):
                for frame in range(8, 12):
                    folder = tmp_path / f'images/{name}/{video}'
                    save(folder / f'0.{frame}.png', person(name, 20 * video + frame))
    path = tmp_path / 'splits.txt'
    path.write_text('\n'.join(lines))
    found = open_set(path)
    # macOS leaves such beside what it copies.
    (tmp_path / 'images/Ann/1/._0.8.png').write_bytes(b'')
    (tmp_path / 'images/Ann/1/landmarks.txt').write_text('')
    images, missing, passed_over = find_images(
        found, ['Ann/1', 'Zoe/0'], tmp_path / 'images'
    )
    assert passed_over.counts == {'hidden': 1, 'named .txt': 1}
    assert [image.key for image in images] == [f'Ann/1/0.{n}.png' for n in range(8, 12)]
    assert list(missing) == ['Zoe/0']
    images, *_ = find_images(found, ['Ann/1'], tmp_path / 'images', frames=2)
    assert [image.key for image in images] == ['Ann/1/0.8.png', 'Ann/1/0.11.png']

    def results(**options):
        return verify.verify_methods(
            path, [judge_of()], methods, scale=8, images=tmp_path / 'images', **options
        )

    feature, score, few = results(), results(video='score'), results(frames=1)
    assert feature['images_used'] == 2 * 4 * len(PEOPLE) and feature['set'] == 'ytf'
    assert few['images_used'] == 2 * len(PEOPLE)
    assert feature['rows'][0]['published'] == 0.9538
    assert feature['passed_over'] == {'hidden': 1, 'named .txt': 1}
    for found in (feature, score):
        assert found['rows'][0]['accuracy'] == 1
    # The noise of frames cancels in their mean.
    assert feature['rows'][1]['auc'] >= few['rows'][1]['auc']


def test_features_are_means_over_the_frames_of_all_chunks():
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (10, 112, 96, 3), np.uint8)
    owners = np.array([0, 0, 0, 2, 2, 3, 3, 3, 3, 3])
    chunks = [
        (owners[:4], faces[:4]),
        (owners[4:7], faces[4:7]),
        (owners[7:], faces[7:]),
    ]
    found = features.describe(chunks, [judge_of()], lambda hr: {'hr': hr}, flip='none')
    described = found['red', 'hr']
    assert described.owners.tolist() == [0, 2, 3]
    for owner, feature in zip(described.owners, described.features, strict=True):
        np.testing.assert_allclose(feature, red(faces[owners == owner]).mean(0))


@pytest.mark.parametrize('flip', features.FLIPS)
@pytest.mark.parametrize('mirrored', [True, False])
def test_flips(flip, mirrored):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (40, 112, 96, 3), np.uint8)
    alone, other = red(faces), red(faces[:, :, ::-1])
    expected = {
        'concat': np.concatenate([alone, other], axis=1),
        'mean': (alone + other) / 2,
        'none': alone,
    }[flip if mirrored else 'none']
    chunk = np.arange(40), faces
    found = features.describe(
        [chunk], [judge_of(mirrored)], lambda hr: {'hr': hr}, flip=flip
    )
    np.testing.assert_allclose(found['red', 'hr'].features, expected)
    pairs = PairIndices(
        np.arange(20),
        np.arange(20, 40),
        np.arange(20) % 2 == 0,
        np.arange(20) // 10,
        np.ones(20, bool),
    )
    row = features.measure(found['red', 'hr'], pairs, each=False)
    assert row['accuracy'] == pytest.approx(
        verify_pairs(expected[:20], expected[20:], pairs.same, pairs.fold).accuracy
    )


def test_insightface_bin(tmp_path):
    encoded, same = [], []
    for kind in range(40):
        first, second = PEOPLE[kind % 8], PEOPLE[(kind + kind % 2) % 8]
        for name, noise in ((first, kind), (second, kind + 100)):
            face = person(name, noise, size=(112, 112))
            save(tmp_path / 'face.png', face)
            encoded.append((tmp_path / 'face.png').read_bytes())
        same.append(first == second)
    path = tmp_path / 'LFW.bin'
    path.write_bytes(pickle.dumps((encoded, same)))
    found = open_set(path)
    assert found.kind == 'lfw' and len(found.pairs) == 40
    assert [pair.fold for pair in found.pairs] == [n // 4 for n in range(40)]
    images, missing, _ = find_images(found, [found.pairs[0].key_a], '')
    assert not missing
    ((_, faces),) = Album(images, None)
    # The eight columns of each side of 112×112 faces are not ours.
    np.testing.assert_array_equal(faces[0], person('Ann', 0))
    results = verify.verify_methods(path, [judge_of()], methods, scale=8)
    assert results['rows'][0]['accuracy'] == 1 and results['pairs_used'] == 40
    with pytest.raises(ValueError, match='leave out --images'):
        verify.verify_methods(path, [judge_of()], methods, scale=8, images=tmp_path)


def test_options_that_do_not_fit(lfw):
    path, images = lfw
    for options, message in (
        ({}, 'needs --images'),
        ({'images': images, 'flip': 'max'}, 'flip is'),
        ({'images': images, 'video': 'max'}, 'video'),
    ):
        with pytest.raises(ValueError, match=message):
            verify.verify_methods(path, [judge_of()], methods, scale=8, **options)


def test_a_wrong_colour_order_is_noticed(lfw, tmp_path, capsys):
    path, images = lfw
    network = write_onnx(tmp_path / 'red.onnx', channel=0)

    def printed(order):
        network.with_suffix('.json').write_text(json.dumps({'colour_order': order}))
        judge = load_judge(network)
        results = verify.verify_methods(path, [judge], methods, scale=8, images=images)
        return results['rows'][0]['accuracy'], capsys.readouterr().out

    accuracy, right = printed('RGB')
    assert accuracy == 1 and 'Warning' not in right
    accuracy, wrong = printed('BGR')
    assert accuracy < 0.9
    assert 'Warning: with red and blue exchanged it verifies 100.0%' in wrong
    assert 'colour order' in wrong and 'BGR' in wrong


def test_a_network_at_chance_is_noticed(lfw, tmp_path, capsys):
    path, images = lfw
    # Of these faces green says nothing, whatever the order of colours.
    network = write_onnx(tmp_path / 'green.onnx', channel=1)
    verify.verify_methods(path, [load_judge(network)], methods, scale=8, images=images)
    printed = capsys.readouterr().out
    assert 'hardly better than chance' in printed and 'value range' in printed
