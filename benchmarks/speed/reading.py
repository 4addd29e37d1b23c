"""Images per second from shards to batches on the device, compared with bare decoding.

    python -m benchmarks.speed.reading --images=8192 --epochs=12

Our side reads as training does: `pipeline.train_batches` (shuffled, mirrored, in
batches) through `parallel.prefetch`. The bare loop reads and decodes the same shards in
file order with as many threads, inside one call of tf.data, and keeps nothing. The two
take turns of one epoch. Batches that waited in queues meanwhile are not timed, so the
end of an epoch, where the next is shuffled, falls elsewhere in each turn.

Slopes are least squares: of the rate over the tenths of an epoch (the median of the
epochs), and of the resident memory over the second half of the epochs. In the first
half, glibc's arenas, one per thread, fill up; with MALLOC_ARENA_MAX=1 in the
environment, memory is flat from the start. The last column is our rate divided by the
rate at which domain-integrated training at the paper's widths consumes pairs, which is
from the newest record of benchmarks/speed/against_pytorch.py on the same host, or from
--pairs_per_second.

The command writes a few hundred procedural faces, repeated, to a temporary directory,
unless it is given --data=DIR. Files come from the page cache. Linux only.
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from benchmarks.measuring import append_record, in_turns, markdown, newest_record, slope
from sicnn_jax import parallel
from sicnn_jax.data import pipeline, procedural_faces, records, runtime, write_records

_DISTINCT = 256
_PER_IDENTITY = 16
_TENTHS = 10
# More batches than the queues of the pipeline and of prefetch hold.
_QUEUED = 12


def render(count: int) -> np.ndarray:
    """Procedural faces, uint8 [count, 112, 96, 3]."""
    draw = jax.jit(lambda person: procedural_faces.render_faces(0, person, person))
    return np.asarray(draw(np.arange(count)))


def write(directory: Path, count: int, encoding: str) -> None:
    """Writes a data set of `count` faces, which repeat a few hundred."""
    encoded = [
        records.encode_image(face, encoding) for face in render(min(count, _DISTINCT))
    ]
    names = [f'person_{i:06d}' for i in range(-(-count // _PER_IDENTITY))]
    split = (
        records.Face(encoded[i % len(encoded)], names[i // _PER_IDENTITY], f'{i}')
        for i in range(count)
    )
    write_records.write_dataset(
        directory,
        {'train': split},
        identities={'train': names},
        alignment={'kind': 'procedural'},
        encoding=encoding,
    )


def bare_pass(info: records.DatasetInfo) -> float:
    """Seconds to read and decode every face of the training split."""
    tf = runtime.import_tensorflow()
    options = tf.data.Options()
    options.threading.private_threadpool_size = runtime.num_cpus()
    options.threading.max_intra_op_parallelism = 1

    def decode(serialised):
        example = tf.io.parse_single_example(
            serialised, {'image': tf.io.FixedLenFeature([], tf.string)}
        )
        if info.encoding == 'png':
            return tf.io.decode_png(example['image'], channels=3)
        return tf.io.decode_jpeg(
            example['image'], channels=3, dct_method='INTEGER_ACCURATE'
        )

    examples = info.split('train')
    dataset = tf.data.TFRecordDataset(
        [os.fspath(path) for path in examples.shards], buffer_size=2**20
    )
    dataset = dataset.map(decode, num_parallel_calls=runtime.num_cpus())
    start = time.perf_counter()
    count = dataset.with_options(options).reduce(np.int64(0), lambda n, _: n + 1)
    seconds = time.perf_counter() - start
    if int(count) != examples.num_examples:
        raise AssertionError(f'{int(count)} faces, not {examples.num_examples}.')
    return seconds


@dataclasses.dataclass
class Reader:
    """Our side, one epoch per turn; keeps the values for the slopes."""

    batches: Iterator
    batch: int
    batches_an_epoch: int
    slopes: list[float] = dataclasses.field(default_factory=list)
    resident: list[float] = dataclasses.field(default_factory=list)

    def epoch(self) -> float:
        """Seconds of an epoch of batches, waiting for each on the device."""
        for batch in itertools.islice(self.batches, _QUEUED):
            jax.block_until_ready(batch)
        times = [time.perf_counter()]
        for batch in itertools.islice(self.batches, self.batches_an_epoch):
            jax.block_until_ready(batch)
            times.append(time.perf_counter())
        parts = np.array_split(np.diff(times), min(_TENTHS, self.batches_an_epoch))
        rates = [self.batch / part.mean() for part in parts]
        self.slopes.append(slope(rates) * len(rates) / statistics.mean(rates))
        self.resident.append(resident_mib())
        return times[-1] - times[0]


def resident_mib() -> float:
    """The resident memory of this process."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def measure(directory: Path, batch: int, epochs: int, shift: int) -> dict:
    """Reads a data set in both ways in turn.

    Raises:
      ValueError: an epoch has no full batch.
    """
    info = records.read_dataset_info(directory)
    count = info.split('train').num_examples
    if count < batch:
        raise ValueError(
            f'{directory} has {count} faces; expected at least a batch of {batch}.'
        )
    start = time.perf_counter()
    batches = parallel.prefetch(
        pipeline.train_batches(directory, batch_size=batch, seed=0, shift=shift)
    )
    jax.block_until_ready(next(batches))
    first = time.perf_counter() - start
    reader = Reader(batches, batch, count // batch)
    bare_pass(info)
    seconds = in_turns(
        {'bare': lambda: [bare_pass(info)], 'ours': lambda: [reader.epoch()]}, epochs
    )
    bare = [count / time for time in seconds['bare']]
    ours = [reader.batches_an_epoch * batch / time for time in seconds['ours']]
    return {
        'encoding': info.encoding,
        'images': count,
        'image_kb': sum(info.split('train').shard_bytes) / count / 1000,
        'batch': batch,
        'shift': shift,
        'epochs': epochs,
        'threads': runtime.num_cpus(),
        'first_batch_seconds': first,
        'images_per_second': statistics.median(ours),
        'bare_images_per_second': statistics.median(bare),
        'share_of_bare': statistics.median(np.divide(ours, bare).tolist()),
        'rate_slope_an_epoch': statistics.median(reader.slopes),
        'resident_mib': reader.resident,
        'resident_slope_mib_an_epoch': slope(reader.resident[epochs // 2 :]),
    }


def consumed() -> float | None:
    """Pairs per second of the newest domain-integrated iteration measured here."""
    record = newest_record(
        'against_pytorch',
        networks='paper',
        work='di_iteration',
        device=jax.devices()[0].device_kind,
        cores=os.cpu_count(),
    )
    return record and record['batch'] / record['seconds']['ours']


def _row(record):
    cores = record['threads']
    pairs = record['pairs_per_second']
    return (
        f'{record["encoding"]}, {record["image_kb"]:.1f} KB',
        [
            f'{record["images_per_second"]:,.0f}',
            f'{record["images_per_second"] / cores:,.0f}',
            f'{record["bare_images_per_second"]:,.0f}',
            f'{record["share_of_bare"]:.0%}',
            f'{record["first_batch_seconds"]:.2f} s',
            f'{record["rate_slope_an_epoch"]:+.1%}',
            f'{record["resident_mib"][-1]:,.0f} MiB',
            f'{record["resident_slope_mib_an_epoch"]:+.1f} MiB',
            f'{record["images_per_second"] / pairs:,.0f}' if pairs else '–',
        ],
    )


_COLUMNS = (
    'images/s',
    'per core',
    'bare, images/s',
    'share of bare',
    'first batch',
    'rate over an epoch',
    'resident',
    'per epoch',
    '× DI iteration',
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=8_192)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--epochs', type=int, default=12)
    parser.add_argument('--shift', type=int, default=0, help='of the augmentation')
    parser.add_argument('--encodings', default=','.join(records.ENCODINGS))
    parser.add_argument('--data', type=Path, help='a data set of your own')
    parser.add_argument('--pairs_per_second', type=float)
    arguments = parser.parse_args()
    settings = arguments.batch, arguments.epochs, arguments.shift
    pairs = arguments.pairs_per_second or consumed()
    tensorflow = runtime.import_tensorflow().__version__
    measured = []
    if arguments.data:
        measured.append(measure(arguments.data, *settings))
    else:
        for encoding in arguments.encodings.split(','):
            with tempfile.TemporaryDirectory() as directory:
                write(Path(directory), arguments.images, encoding)
                measured.append(measure(Path(directory), *settings))
    for record in measured:
        record |= {'pairs_per_second': pairs, 'tensorflow': tensorflow}
        append_record('reading', record)
    print(markdown(_COLUMNS, [_row(record) for record in measured], 'encoding'))


if __name__ == '__main__':
    main()
