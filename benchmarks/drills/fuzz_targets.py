"""Inputs for `fuzz.py`: damaged files and overrides, and their allowed outcomes."""

import ast
import json
import math
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util
from hypothesis import strategies as st
from ml_collections import ConfigDict

from benchmarks.drills import mutations
from benchmarks.drills.mutations import LITERALS, NUMBERS
from sicnn_jax.config import ConfigError
from sicnn_jax.config.load import load
from sicnn_jax.data import pipeline, recordio, records, runtime, write_records
from sicnn_jax.data.records import DatasetError, Face

CONFIG = 'configs/di.py:demo'


class Wrong(Exception):
    """Something was read that differs from what was written."""


class Target(NamedTuple):
    """A reader and inputs for it.

    Attributes:
      inputs: plain data to try.
      attempt: reads one; raises `Wrong` if the result differs from what was written.
      refusals: errors by which it may refuse an input.
    """

    inputs: st.SearchStrategy
    attempt: Callable[[Any], None]
    refusals: tuple[type[Exception], ...]


def targets() -> dict[str, Callable[[Path], Target]]:
    """Targets by name; each makes its valid files in an empty directory."""
    return {
        'records': records_target,
        'recordio': recordio_target,
        'bin': bin_target,
        'overrides': overrides_target,
    }


def records_target(directory: Path) -> Target:
    """Shards and `faces.json`: `records.read_faces` and `pipeline.eval_batches`.

    Every face read from a damaged shard must be one that was written. A shard with
    valid checksums may hold any bytes.
    """
    faces = [
        Face(np.full((112, 96, 3), 40 * i, np.uint8), f'p{i % 3}', f'{i}')
        for i in range(6)
    ]
    data = directory / 'data'
    strangers = [
        Face(face.image, f'q{i}', f'test_{i}') for i, face in enumerate(faces[:2])
    ]
    splits = {'train': faces, 'test': strangers}
    names = {
        split: sorted({face.name for face in found}) for split, found in splits.items()
    }
    write_records.write_dataset(
        data, splits, identities=names, alignment=None, shard_size=3
    )
    shard = 'faces-train.tfrecord-00001-of-00002'
    whole = {name: (data / name).read_bytes() for name in (shard, records.SIDECAR)}
    others = [path.read_bytes() for path in sorted(data.glob('*tfrecord*'))]
    written = set(records.read_faces(data, 'train'))
    tf = runtime.import_tensorflow()
    examples = [
        example.numpy() for example in tf.data.TFRecordDataset(str(data / shard))
    ]
    sidecar = json.loads(whole[records.SIDECAR])

    def attempt(drawn):
        kind, change, resized = drawn
        content, said = whole[shard], sidecar
        if kind == 'shard':
            content = mutations.apply(change, content, others)
        elif kind == 'example':
            which, damage = change
            changed = list(examples)
            changed[which] = mutations.apply(damage, changed[which], examples)
            content = framed(tf, changed, directory / 'framed')
        elif kind == 'value':
            said = mutations.replace(said, *change)
        elif kind == 'missing':
            said = mutations.without(said, change)
        text = json.dumps(said).encode()
        if kind == 'text':
            text = mutations.apply(change, whole[records.SIDECAR], others)
        elif kind == 'nested':
            text = b'[' * change + b']' * change
        elif resized:
            said = json.loads(text)
            with_size(said, shard, len(content))
            text = json.dumps(said).encode()
        (data / shard).write_bytes(content)
        (data / records.SIDECAR).write_bytes(text)
        info = records.read_dataset_info(data)
        for split in list(info.splits):
            read = list(records.read_faces(data, split))
            if len(read) != info.split(split).num_examples:
                raise Wrong(f'{len(read)} faces')
            if split == 'train' and kind != 'example' and not written.issuperset(read):
                raise Wrong('a face is not one that was written')
            labels = 0
            for batch in pipeline.eval_batches(data, split, batch_size=4):
                if batch['hr'].shape[1:] != (112, 96, 3):
                    raise Wrong(f'a batch has the shape {batch["hr"].shape}')
                labels += len(batch['label'])
            if labels != len(read):
                raise Wrong(f'{labels} labels of {len(read)} faces')
        for batch in pipeline.train_batches(data, batch_size=2, seed=0):
            if batch['hr'].shape != (2, 112, 96, 3):
                raise Wrong(f'a batch has the shape {batch["hr"].shape}')
            break

    return Target(_damaged_sets(mutations.nodes(sidecar)), attempt, (DatasetError,))


def _damaged_sets(places):
    """Kind of damage, damage, and whether `faces.json` gets the shard's new size."""
    return st.one_of(
        st.tuples(st.just('shard'), mutations.damages(), st.booleans()),
        st.tuples(
            st.just('example'),
            st.tuples(st.integers(0, 2), mutations.damages()),
            st.just(True),
        ),
        st.tuples(
            st.just('value'),
            st.tuples(st.sampled_from(places), LITERALS),
            st.just(False),
        ),
        st.tuples(st.just('missing'), st.sampled_from(places[1:]), st.just(False)),
        st.tuples(st.just('text'), mutations.damages(), st.just(False)),
        st.tuples(st.just('nested'), st.integers(0, 200_000), st.just(False)),
    )


def framed(tf: Any, examples: list[bytes], path: Path) -> bytes:
    """A shard of these records, with valid checksums."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)
    return path.read_bytes()


def with_size(sidecar: dict, shard: str, size: int) -> None:
    """Sets the size of the shard in `faces.json`."""
    for split in sidecar['splits'].values():
        for entry in split['shards']:
            if entry['file'] == shard:
                entry['bytes'] = size


def recordio_target(directory: Path) -> Target:
    """`train.rec`, `train.idx` and `property`: `recordio.read_index`, `Part.read`.

    RecordIO has no checksums, so a changed byte of an image goes unnoticed. But a file
    that is only cut short must be refused, unless every image is still in it.
    """
    images = [b'one', b'', b'three!' * 9, struct.pack('<I', 0xCED7230A) * 2]
    files = insightface_set(images)
    path = directory / 'train.rec'

    def attempt(drawn):
        kind, changes = drawn
        content = dict(files)
        if kind == 'damaged':
            for name, damage in changes.items():
                content[name] = mutations.apply(
                    damage, content[name], [*files.values()]
                )
        elif kind == 'cut':
            content['train.rec'] = content['train.rec'][:changes]
        else:
            content = made_set(*changes)
        for name, value in content.items():
            (directory / name).write_bytes(value)
        parts, labels = recordio.read_index(path)
        if not all(isinstance(label, int) and label >= 0 for label in labels):
            raise Wrong(f'labels {labels}')
        read = [part.read() for part in parts]
        if kind == 'cut' and read != images:
            raise Wrong('the images differ')

    label = st.one_of(
        st.integers(0, 5).map(float),
        st.floats(width=32),
        st.lists(st.one_of(st.integers(0, 5), st.floats(width=32)), max_size=3),
        NUMBERS,
    )
    number = st.one_of(
        st.integers(-2, 60),
        NUMBERS,
        st.sampled_from(['', 'x', '1_0', '٣', '1e3', '9' * 5000, 10**30, -(10**30)]),
    )
    counts = st.one_of(
        st.just([6, 112, 112]), st.text(max_size=9), st.lists(number, max_size=4)
    )
    inputs = st.one_of(
        st.tuples(
            st.just('damaged'),
            st.dictionaries(
                st.sampled_from(sorted(files)),
                mutations.damages(2),
                min_size=1,
                max_size=2,
            ),
        ),
        st.tuples(st.just('cut'), st.integers(0, len(files['train.rec']))),
        st.tuples(
            st.just('made'),
            st.tuples(
                st.lists(st.tuples(label, st.binary(max_size=9)), max_size=4),
                st.lists(st.tuples(number, number), max_size=2),
                counts,
            ),
        ),
    )
    return Target(inputs, attempt, (DatasetError,))


def insightface_set(images: list[bytes]) -> dict[str, bytes]:
    """The files of a set: record 0, then a record per image, each another person."""
    packed = [([len(images) + 1.0, len(images) + 1.0], b'')]
    packed += [(float(i), image) for i, image in enumerate(images)]
    return made_set(packed, [], [len(images), 112, 112])


def made_set(
    packed: list[tuple[Any, bytes]], lines: list[tuple[Any, Any]], counts: Any
) -> dict[str, bytes]:
    """Files of records (label, image), with extra index lines, and `property`."""
    content, index = b'', []
    for number, (label, image) in enumerate(packed):
        index.append((number, len(content)))
        content += record(label, image)
    text = '\n'.join(f'{number}\t{offset}' for number, offset in [*index, *lines])
    said = counts if isinstance(counts, str) else ','.join(map(str, counts))
    return {
        'train.rec': content,
        'train.idx': text.encode('utf-8', 'replace'),
        'property': said.encode('utf-8', 'replace'),
    }


def record(label: Any, image: bytes) -> bytes:
    """A RecordIO record; an integer label is a flag without the labels it announces."""
    magic = struct.pack('<I', 0xCED7230A)
    if isinstance(label, int):
        data = struct.pack('<IfQQ', label % 2**32, 0, 0, 0) + image
    elif isinstance(label, list):
        values = np.array(label, '<f4').tobytes()
        data = struct.pack('<IfQQ', len(label), 0, 0, 0) + values + image
    else:
        data = struct.pack('<IfQQ', 0, label, 0, 0) + image
    parts = data.split(magic)
    flags = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b''.join(
        magic + struct.pack('<I', flag << 29 | len(part)) + part + bytes(-len(part) % 4)
        for flag, part in zip(flags, parts, strict=True)
    )


def bin_target(directory: Path) -> Target:
    """Pickles: `recordio.read_bin`.

    Every image that is read must be in the file, with two images per boolean. A file
    that is cut short must be refused.
    """
    path = directory / 'lfw.bin'
    images = [b'\xff\xd8 one', b'two', b'three', b'four']
    arrays = [np.frombuffer(image, np.uint8) for image in images]
    whole = [
        pickle.dumps(found, protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        for found in (
            (images, [True, False]),
            (images, [np.True_, np.False_]),
            (arrays, np.array([True, False])),
        )
    ]

    def attempt(drawn):
        kind, which, change = drawn
        content = change if which is None else whole[which]
        if kind == 'damaged':
            content = mutations.apply(change, content, whole)
        elif kind == 'cut':
            content = content[: change % len(content)]
        path.write_bytes(content)
        found, same = recordio.read_bin(path)
        if same.dtype != bool or len(found) != 2 * len(same):
            raise Wrong(f'{len(found)} images, {same!r}')
        if not all(isinstance(i, bytes) and len(i) <= len(content) for i in found):
            raise Wrong('an image is not in the file')
        if kind == 'cut':
            raise Wrong('part of a file was read')

    which = st.integers(0, len(whole) - 1)
    made = st.one_of(
        _expressions().map(lambda built: b'\x80\x04' + built + b'.'),
        st.tuples(_expressions(), _expressions()).map(
            lambda pair: b'\x80\x04' + pair[0] + pair[1] + b'\x86.'
        ),
        _sets(),
        _sets(),
        st.lists(_opcodes(), max_size=20).map(lambda ops: b''.join(ops) + b'.'),
        st.integers(1, 100_000).map(lambda deep: b'(' * deep + b't' * deep + b'.'),
    )
    inputs = st.one_of(
        st.tuples(st.just('damaged'), which, mutations.damages()),
        st.tuples(st.just('cut'), which, st.integers(0, 2**10)),
        st.tuples(st.just('made'), st.none(), made),
        st.tuples(st.just('made'), st.none(), made),
    )
    return Target(inputs, attempt, (DatasetError,))


_GLOBALS = (
    ('_codecs', 'encode'),
    ('numpy', 'dtype'),
    ('numpy', 'ndarray'),
    ('numpy.core.multiarray', '_reconstruct'),
    ('numpy._core.multiarray', 'scalar'),
    ('numpy.core.numeric', '_frombuffer'),
    ('os', 'getpid'),
    ('builtins', 'getattr'),
    ('numpy', 'ndarray.tolist'),
)


def _sets():
    """Pickles of two images and one boolean, as plain values, arrays and calls."""
    data = st.binary(max_size=8)
    image = st.one_of(
        data.map(_dumped),
        st.tuples(data, st.sampled_from(['u1', 'i1', 'b1', 'O', 'S1'])).map(
            lambda drawn: _array([len(drawn[0])], drawn[1], drawn[0], False)
        ),
        _expressions(),
    )
    same = st.one_of(
        st.booleans().map(_dumped), st.integers(-1, 2).map(_dumped), _expressions()
    )
    whole = st.binary(min_size=1, max_size=1).map(
        lambda drawn: _array([len(drawn)], 'b1', drawn, False)
    )

    def listed(several):
        return b'](' + b''.join(several) + b'e'

    return st.tuples(
        st.lists(image, min_size=2, max_size=2).map(listed),
        st.one_of(st.lists(same, min_size=1, max_size=1).map(listed), whole),
    ).map(lambda pair: b'\x80\x04' + b''.join(pair) + b'\x86.')


def _expressions():
    """Opcodes that leave a value on the stack: literals, arrays, calls, states."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 4),
        NUMBERS,
        st.floats(),
        st.binary(max_size=8),
        st.text(max_size=4),
        st.sampled_from(
            ['b', 'b1', 'u1', 'i8', 'O', 'V0', 'V8', 'S3', 'M8[s]', '|', '<', 'latin1']
        ),
    )
    literals = plain.map(_dumped)
    names = st.sampled_from(_GLOBALS).map(lambda name: _global(*name))
    shape = st.lists(st.one_of(st.integers(0, 4), NUMBERS), max_size=3)
    dtypes = st.sampled_from(['b1', 'u1', 'i8', 'O', 'V0', 'f4', 'S2', 'U1'])
    arrays = st.builds(_array, shape, dtypes, st.binary(max_size=16), st.booleans())

    def more(inner):
        several = st.lists(inner, max_size=4).map(b''.join)
        return st.one_of(
            several.map(lambda items: b'(' + items + b't'),
            several.map(lambda items: b'](' + items + b'e'),
            st.lists(st.tuples(inner, inner), max_size=2).map(
                lambda pairs: b'}(' + b''.join(map(b''.join, pairs)) + b'u'
            ),
            st.tuples(names, several).map(
                lambda call: call[0] + b'(' + call[1] + b'tR'
            ),
            st.tuples(inner, several).map(
                lambda build: build[0] + b'(' + build[1] + b'tb'
            ),
            st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1] + b'b'),
        )

    return st.recursive(st.one_of(literals, names, arrays), more, max_leaves=8)


def _array(shape, dtype, data, only_made):
    """`_reconstruct(ndarray, shape, 'b')`, alone or with the state of an array."""
    shape = _dumped(tuple(shape))
    reconstruct = _global('numpy.core.multiarray', '_reconstruct')
    reconstruct += _global('numpy', 'ndarray')
    reconstruct += (shape if only_made else _dumped((0,))) + _dumped(b'b') + b'\x87R'
    if only_made:
        return reconstruct
    kind = _global('numpy', 'dtype') + _dumped(dtype) + b'\x85R'
    state = (_dumped(1), shape, kind, _dumped(False), _dumped(data))
    return reconstruct + b'(' + b''.join(state) + b'tb'


def _global(module, name):
    """Opcodes that push what a module has by this name."""
    return _dumped(module) + _dumped(name) + b'\x93'


def _dumped(value):
    """Opcodes of a plain value, without frame, memo and STOP."""
    content = pickle.dumps(value, 2)
    # Without memo entries, since all values of a pickle would share them.
    return pickletools.optimize(content)[2:-1]


def _opcodes():
    """One opcode with an argument, which may be too short."""
    codes = [opcode.code.encode('latin1') for opcode in pickletools.opcodes]
    argument = st.one_of(
        st.just(b''),
        st.binary(max_size=8),
        NUMBERS.map(lambda number: struct.pack('<Q', number)),
        st.sampled_from([b'0\n', b'1\n', b'numpy\ndtype\n', b'os\nsystem\n', b'x\n']),
    )
    return st.tuples(st.sampled_from(codes), argument).map(b''.join)


def overrides_target(directory: Path) -> Target:
    """`--config.FIELD=VALUE`: `config.load`, which also checks the config.

    Accepted values must be those that were given, and all numbers must be finite.
    """
    default = load(CONFIG)
    fields = _flatten(default)

    def attempt(arguments):
        config = load(CONFIG, [f'--config.{argument}' for argument in arguments])
        found = _flatten(config)
        for field, value in found.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise Wrong(f'config.{field} is {value}')
        last = dict(argument.partition('=')[::2] for argument in arguments)
        for field, text in last.items():
            if field in found and not _as_asked(found[field], text):
                raise Wrong(f'config.{field} is {found[field]!r}')

    name = st.one_of(
        st.sampled_from(sorted(fields)),
        st.sampled_from(sorted(fields)),
        st.sampled_from(sorted(_sections(default))),
        st.builds(_misspelt, st.sampled_from(sorted(fields)), st.integers(0, 40)),
        st.sampled_from(sorted(fields)).map(lambda field: f'{field}.x.y'),
        st.sampled_from(['cnnr.widths[0]', 'cnnr.widths[9]', 'stages[-1]', 'x[', '..']),
        st.text(max_size=8),
    )
    text = st.one_of(
        LITERALS.map(str),
        LITERALS.map(repr),
        st.text(max_size=8),
        st.sampled_from(['nan', '-inf', '1e999', '1e3', '0x10', '1_0', '-1', '1,2']),
        st.sampled_from(['True', 'false', 'None', 'recognition', 'adam', '@1', '(']),
        st.sampled_from(['()', '(1,)', '(1, 2, 3, 4)', "('x',)", "('recognition',)"]),
        st.sampled_from(['9' * 5000, '(' * 500, '{"a": 1}']),
        NUMBERS.map(str),
    )
    one = st.tuples(name, text).map('='.join)
    return Target(st.lists(one, min_size=1, max_size=4), attempt, (ConfigError,))


def _flatten(config):
    """Values by the path of the field."""
    return traverse_util.flatten_dict(config.to_dict(), sep='.')


def _sections(config, above=''):
    for field, value in config.items():
        if isinstance(value, ConfigDict):
            yield above + field
            yield from _sections(value, f'{above}{field}.')


def _misspelt(field, place):
    place %= len(field)
    return field[:place] + field[place + 1 :]


def _as_asked(value, text):
    """Whether a value is what its text says; a string is its text."""
    if isinstance(value, str):
        return value == text
    if isinstance(value, float):
        return value == float(text)
    try:
        said = ast.literal_eval(text.strip())
    # The text is no Python literal, for example `true`.
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return True
    several = said if isinstance(said, list | tuple | dict) else [said]
    return value == said or isinstance(value, bool) or [*value] == [*several]
