"""Damaged shards: an error by default, or skipped, counted and reported."""

import io
import itertools
import json
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from sicnn_jax.data import pipeline, records, runtime, salvage
from sicnn_jax.data.records import DatasetError, Face
from tests.writing import write_set

COUNT, SHARD = 40, 8


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp('salvage') / 'whole'
    rng = np.random.default_rng(0)
    faces = [
        Face(rng.integers(0, 256, (112, 96, 3), np.uint8), f'p{i % 4}', f'{i:02d}')
        for i in range(COUNT)
    ]
    splits = {'train': faces, 'test': [Face(faces[0].image, 'q', 'q')]}
    write_set(directory, splits, alignment=None, shard_size=SHARD)
    return directory


@pytest.fixture
def damaged(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / 'data')


def _shard(directory, number):
    return directory / f'faces-train.tfrecord-{number:05d}-of-{COUNT // SHARD:05d}'


def _frames(content):
    """Where the records of a shard begin, and its end."""
    places = [0]
    while places[-1] < len(content):
        (length,) = struct.unpack_from('<Q', content, places[-1])
        places.append(places[-1] + length + 16)
    return places


def _change_example(path, number, change):
    """Writes a shard again, with whole checksums, in which one example is another."""
    tf = runtime.import_tensorflow()
    serialised = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    example = tf.train.Example.FromString(serialised[number])
    change(example.features.feature)
    serialised[number] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for value in serialised:
            writer.write(value)


def _delete(path):
    path.unlink()
    return range(SHARD)


def _cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: _frames(content)[5] + 100])
    return range(5, SHARD)


def _flip_a_bit(path):
    """In the image of record 3."""
    content = bytearray(path.read_bytes())
    content[_frames(content)[3] + 2000] ^= 4
    path.write_bytes(content)
    return [3]


def _flip_a_length(path):
    """Nobody knows where the record after 6 begins."""
    content = bytearray(path.read_bytes())
    content[_frames(content)[6]] ^= 1
    path.write_bytes(content)
    return [6, 7]


def _break_the_image(path):
    def change(feature):
        image = feature['image'].bytes_list
        image.value[0] = image.value[0][:60] + bytes(len(image.value[0]) - 60)

    _change_example(path, 2, change)
    return [2]


def _plant_a_bomb(path):
    """0.9 gigapixels; were it decoded, it would only be of another size."""
    buffer = io.BytesIO()
    Image.new('1', (30_000, 30_000)).save(buffer, 'png')

    def change(feature):
        feature['image'].bytes_list.value[0] = buffer.getvalue()

    _change_example(path, 1, change)
    return [1]


def _relabel(path):
    def change(feature):
        feature['label'].int64_list.value[0] = 4

    _change_example(path, 4, change)
    return [4]


DAMAGES = (
    _delete,
    _cut,
    _flip_a_bit,
    _flip_a_length,
    _break_the_image,
    _plant_a_bomb,
    _relabel,
)


def _batches(directory, count, **settings):
    settings = {'batch_size': 8, 'seed': 3, **settings}
    return list(itertools.islice(pipeline.train_batches(directory, **settings), count))


@pytest.mark.parametrize('damage', DAMAGES)
def test_what_is_damaged_is_skipped_counted_and_named(damage, damaged, tmp_path):
    bad = list(damage(_shard(damaged, 1)))
    out = tmp_path / 'salvaged'
    assert salvage.salvage(damaged, out, max_share=0.2) == out
    report = json.loads((out / salvage.REPORT).read_text())
    found = [(fault['shard'], fault['record']) for fault in report['faults']]
    assert found == [(_shard(damaged, 1).name, number) for number in bad]
    assert report['splits'] == {
        'train': {'examples': COUNT, 'faults': len(bad)},
        'test': {'examples': 1, 'faults': 0},
    }
    expected = {f'{i:02d}' for i in range(COUNT)} - {f'{SHARD + n:02d}' for n in bad}
    keys = records.read_keys(out, 'train')
    assert len(keys) == len(expected) and set(keys) == expected
    assert len(list(_batches(out, 6))) == 6


@pytest.mark.parametrize('damage', DAMAGES)
def test_by_default_the_shard_and_the_record_are_named(damage, damaged):
    first = min(damage(_shard(damaged, 1)))
    # Those change the size of the shard, which is looked at before.
    sized = damage in (_delete, _cut, _plant_a_bomb)
    record = '' if sized else f' at record {first}:'
    with pytest.raises(DatasetError) as caught:
        _batches(damaged, 6)
    assert str(_shard(damaged, 1)) in str(caught.value)
    assert record in str(caught.value)


def test_order_and_processes_are_as_without_damage(damaged, tmp_path):
    _flip_a_bit(_shard(damaged, 1))
    out = salvage.salvage(damaged, tmp_path / 'salvaged', max_share=0.1)
    batches = _batches(out, 7)
    np.testing.assert_equal(_batches(out, 2, start_step=5), batches[5:])
    parts = [_batches(out, 7, process_index=i, process_count=2) for i in range(2)]
    for batch, *halves in zip(batches, *parts, strict=True):
        joined = np.concatenate([half['label'] for half in halves])
        np.testing.assert_array_equal(joined, batch['label'])


def test_too_many_faults_are_an_error(damaged, tmp_path):
    _cut(_shard(damaged, 1))
    with pytest.raises(
        DatasetError, match=r"3 of the 40 faces .* split 'train'.*7.50%"
    ):
        salvage.salvage(damaged, tmp_path / 'salvaged', max_share=0.05)


def test_a_whole_data_set_is_used_as_it_is(whole, tmp_path):
    assert salvage.salvage(whole, tmp_path / 'salvaged', max_share=0) == whole
    assert [p.name for p in (tmp_path / 'salvaged').iterdir()] == [salvage.REPORT]


def test_what_was_found_is_used_again_until_the_files_change(damaged, tmp_path, capsys):
    out = tmp_path / 'salvaged'
    _cut(_shard(damaged, 1))
    for _ in range(2):
        salvage.salvage(damaged, out, max_share=0.1)
    assert capsys.readouterr().out.count('Looking for damaged records') == 1
    before = records.fingerprint(out)
    _shard(damaged, 2).unlink()
    salvage.salvage(damaged, out, max_share=0.5)
    assert capsys.readouterr().out.count('Looking for damaged records') == 1
    assert records.fingerprint(out) != before


def test_shards_elsewhere_are_refused(damaged):
    sidecar = json.loads((damaged / records.SIDECAR).read_text())
    sidecar['splits']['test']['shards'][0]['file'] = '../secret'
    (damaged / records.SIDECAR).write_text(json.dumps(sidecar))
    with pytest.raises(DatasetError, match='not a plain file name'):
        records.read_dataset_info(damaged)
