"""Copies the intact records of a damaged data set.

All shards are read once. So the records that are left out are known before training
starts, and the order of the others still depends on (seed, step) alone, on any number
of processes and after a kill. Intact shards are linked; damaged ones are copied without
their damaged records.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
import zlib

from sicnn_jax.data import pipeline, records, runtime, write_records
from sicnn_jax.data.records import DatasetError
from sicnn_jax.results_file import encode_json

REPORT = 'faults.json'

# A TFRecord: length (8 bytes) and its CRC, the content, and its CRC.
_HEADER, _FOOTER = 12, 4
# At most this many faults are printed; all are in the report.
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Fault:
    """A record that cannot be used: number `record` of its shard, counted from 0."""

    shard: str
    record: int
    problem: str

    def __str__(self) -> str:
        return f'{self.shard}, record {self.record}: {self.problem}'


def salvage(
    directory: str | os.PathLike, out: str | os.PathLike, *, max_share: float
) -> pathlib.Path:
    """A data set without the records that cannot be used.

    Those are the records of a missing shard, and records that are cut short, fail their
    checksum, or have no image or a label out of range.

    Args:
      directory: a data set of `write_records.write_dataset`, perhaps damaged since.
      out: gets `faults.json`, and the data set if there are faults. An earlier call's
        results for the same files are used again.
      max_share: the share of each split that may be missing.

    Returns:
      `directory` if it is intact, else `out`.

    Raises:
      DatasetError: more than that share of a split cannot be used, or `faces.json` or
        TFDS' metadata is damaged.
    """
    directory, out = pathlib.Path(directory), pathlib.Path(out)
    info = records.read_dataset_info(directory, check_shards=False)
    found, seen = _fingerprint(info), None
    # An earlier scan may have left its report.
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        seen = json.loads((out / REPORT).read_text('utf-8'))['fingerprint']
    if seen != found:
        _scan(info, out, found)
    report = json.loads((out / REPORT).read_text('utf-8'))
    faults = [Fault(**fault) for fault in report['faults']]
    for name, split in report['splits'].items():
        bad, count = split['faults'], split['examples']
        if bad > max_share * count:
            raise DatasetError(
                f'{bad} of the {count} faces of {directory}, split {name!r}, cannot be '
                f'used: {bad / count:.2%}, more than data.max_error_share, '
                f'{max_share:.2%}. Copy the data set again or prepare it again. '
                f'{_named(faults)}'
            )
    if not faults:
        return directory
    print(
        f'{len(faults)} faces of {directory} are skipped, all named in '
        f'{out / REPORT}. {_named(faults)}',
        flush=True,
    )
    return out


def _scan(info, out, fingerprint):
    """Writes the report and, if there are faults, the data set."""
    print(f'Looking for damaged records in {info.directory}', flush=True)
    tf = runtime.import_tensorflow()
    unfinished = out.with_name(out.name + '.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    faults: list[Fault] = []
    splits, shards, whole = {}, {}, []
    for name, split in info.splits.items():
        before = len(faults)
        for path, count in zip(split.shards, split.shard_examples, strict=True):
            if _is_whole(tf, info, split, path, count):
                whole.append(path)
                continue
            kept, bad = _sort_out(tf, info, split, path, count)
            faults += bad
            with tf.io.TFRecordWriter(os.fspath(unfinished / path.name)) as writer:
                for content in kept:
                    writer.write(content)
            size = (unfinished / path.name).stat().st_size
            shards[path.name] = {'bytes': size, 'examples': len(kept)}
        splits[name] = {'examples': split.num_examples, 'faults': len(faults) - before}
    report = {
        'source': os.fspath(info.directory.absolute()),
        'fingerprint': fingerprint,
        'splits': splits,
        'faults': [dataclasses.asdict(fault) for fault in faults],
    }
    (unfinished / REPORT).write_bytes(encode_json(report, indent=1))
    if faults:
        for path in whole:
            (unfinished / path.name).symlink_to(path.absolute())
        write_records.write_changed(info.directory, unfinished, shards)
    shutil.rmtree(out, ignore_errors=True)
    unfinished.replace(out)


def _is_whole(tf, info, split, path, count):
    """Whether all records of a shard can be used: quick, but names no bad record."""
    check, cpus = _checked(tf, info, split), runtime.num_cpus()
    shard = tf.data.TFRecordDataset(os.fspath(path))
    batches = shard.map(check, num_parallel_calls=cpus).batch(256)
    try:
        return sum(len(batch['key']) for batch in batches.as_numpy_iterator()) == count
    except tf.errors.OpError:
        return False


def _sort_out(tf, info, split, path, count):
    """The records of a damaged shard that can be used, and the faults of the others."""
    check = _checked(tf, info, split)
    kept, faults, number = [], [], -1
    for number, content in enumerate(_contents(tf, path)):
        if number >= count:
            break
        if content is None:
            faults.append(Fault(path.name, number, 'its checksum is wrong'))
            continue
        try:
            check(content)
        except tf.errors.OpError as error:
            faults.append(Fault(path.name, number, error.message))
        else:
            kept.append(content)
    lost = 'the shard is missing' if not path.is_file() else 'the shard is cut short'
    faults += [Fault(path.name, n, lost) for n in range(number + 1, count)]
    return kept, faults


def _contents(tf, path):
    """The contents of a shard's records; None for a record that fails its checksum.

    It ends where the start of the next record is unknown.
    """
    if not path.is_file():
        return
    shard = path.read_bytes()
    contents = []
    place = 0
    while place + _HEADER <= len(shard):
        length = int.from_bytes(shard[place : place + 8], 'little')
        end = place + _HEADER + length + _FOOTER
        if end > len(shard):
            break
        contents.append(shard[place + _HEADER : end - _FOOTER])
        place = end
    # TensorFlow computes checksums only when it writes.
    with tempfile.TemporaryDirectory() as directory:
        written = pathlib.Path(directory) / 'shard'
        with tf.io.TFRecordWriter(os.fspath(written)) as writer:
            for content in contents:
                writer.write(content)
        expected = written.read_bytes()
    place = 0
    for content in contents:
        start, end = place + _HEADER, place + _HEADER + len(content) + _FOOTER
        if shard[place:start] != expected[place:start]:
            return
        yield content if shard[start:end] == expected[start:end] else None
        place = end


def _checked(tf, info, split):
    """Serialised example → part of it, or an error if it cannot be used."""
    names = ('key', 'name', 'source')
    texts = dict.fromkeys(names, tf.io.FixedLenFeature([], tf.string))

    def check(serialised):
        example = pipeline.decode(tf, info.encoding, split.num_identities, serialised)
        parsed = tf.io.parse_single_example(serialised, texts)
        # Only values that the result depends on are computed.
        return {'key': parsed['key'], 'corner': example['hr'][0, 0]}

    return check


def _fingerprint(info):
    """Fingerprint of `faces.json`, and of the names and sizes of existing shards."""
    sizes = [
        [path.name, path.stat().st_size if path.is_file() else None]
        for split in info.splits.values()
        for path in split.shards
    ]
    said = records.fingerprint(info.directory)
    return f'{said}-{zlib.crc32(json.dumps(sizes).encode()):08x}'


def _named(faults):
    more = len(faults) - _NAMED
    listed = '; '.join(map(str, faults[:_NAMED]))
    return listed + (f'; and {more} more.' if more > 0 else '.')
