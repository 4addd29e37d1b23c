"""Keeps converted faces in numbered chunks on disk, so that a run can resume.

    .OUT.unfinished/settings.json     the settings that the faces were made with
    .OUT.unfinished/00000.faces …     encoded faces, one after the other
    .OUT.unfinished/00000.json …      for each photograph of the chunk, its faces or why
                                      there are none; moved into place last

A chunk is a function of the settings and its photographs. So it is the same whichever
process writes it, and however often, and a run that was killed continues with the
missing chunks.
"""

import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from multiprocessing import connection
from typing import Any, NamedTuple

import numpy as np

from sicnn_jax.data import records
from sicnn_jax.data.preparing import convert
from sicnn_jax.results_file import encode_json, write_whole

# Photographs per chunk; a process is given one chunk at a time.
CHUNK = 128

_PUBLISHING = 'publishing'

FACE = np.dtype(
    [
        ('item', np.int64),  # Which photograph,
        ('number', np.int32),  # and which of its faces.
        ('chunk', np.int32),
        ('offset', np.int64),
        ('size', np.int32),
        ('height', np.float32),
        ('fingerprint', np.uint8, convert.FINGERPRINT_BYTES),
    ]
)


class Task(NamedTuple):
    """The photographs of a chunk."""

    chunk: int
    photographs: list[convert.Photograph]


def span(chunk: int) -> slice:
    """The photographs of a chunk; the last chunk may have fewer."""
    return slice(chunk * CHUNK, (chunk + 1) * CHUNK)


class Spool:
    """The chunks of one run.

    Args:
      directory: of the chunks; made by `start`.
    """

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self._chunks = range(0)

    @property
    def publishing(self) -> bool:
        """Whether an earlier run had begun to replace the content of `out`."""
        return (self.directory / _PUBLISHING).exists()

    def start(self, settings: dict[str, Any], photographs: int) -> None:
        """Makes the directory, or finds it as an earlier run left it.

        Args:
          settings: everything that faces depend on; any JSON value.
          photographs: how many there are.

        Raises:
          DatasetError: that run had other settings.
        """
        path = self.directory / 'settings.json'
        if path.exists():
            found = json.loads(path.read_text(encoding='utf-8'))
            changed = [
                f'{name} was {found.get(name)!r} and is {value!r}'
                for name, value in settings.items()
                if found.get(name) != value
            ]
            if changed:
                raise records.DatasetError(
                    f'{self.directory} has faces of an interrupted run with other '
                    f'settings: {"; ".join(changed)}. Use the same settings to finish '
                    'it, or delete that directory.'
                )
        self.directory.mkdir(parents=True, exist_ok=True)
        _write(path, json.dumps(settings, indent=1).encode())
        self._chunks = range(-(-photographs // CHUNK))

    def missing(self) -> list[int]:
        """Chunks that are missing or incomplete."""
        return [chunk for chunk in self._chunks if self._load(chunk) is None]

    def load(self) -> tuple[np.ndarray, dict[int, str]]:
        """All faces, `FACE` [n] in order, and why other photographs have none."""
        arrays, rejected = [], {}
        for chunk in self._chunks:
            faces: list[tuple] = []
            for item, outcome in enumerate(self._load(chunk), start=span(chunk).start):
                if isinstance(outcome, str):
                    rejected[item] = outcome
                    continue
                faces += [
                    (item, number, chunk, 0, size, height, list(bytes.fromhex(bits)))
                    for number, (size, height, bits) in enumerate(outcome)
                ]
            array = np.array(faces, FACE)
            array['offset'] = np.cumsum(array['size']) - array['size']
            arrays.append(array)
        return np.concatenate(arrays), rejected

    def read(self, face: np.void) -> bytes:
        """The encoded face of an element that `load` returned."""
        with (self.directory / f'{face["chunk"]:05d}.faces').open('rb') as file:
            file.seek(face['offset'])
            return file.read(face['size'])

    def begin_publishing(self) -> None:
        """Records that this run may replace the content of `out` from now on."""
        (self.directory / _PUBLISHING).touch()

    def remove(self) -> None:
        """Deletes everything that exists."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _load(self, chunk):
        """The outcome of each photograph; None if the chunk is incomplete."""
        try:
            text = (self.directory / f'{chunk:05d}.json').read_text(encoding='utf-8')
            found = json.loads(text)
            size = (self.directory / f'{chunk:05d}.faces').stat().st_size
        # After a power cut, a file may have its name but not its content.
        except (FileNotFoundError, ValueError):
            return None
        expected = sum(
            face[0] for faces in found if not isinstance(faces, str) for face in faces
        )
        return found if size == expected else None


def write_chunk(
    function: Callable[[list[convert.Photograph]], list[convert.Outcome]],
    directory: pathlib.Path,
    task: Task,
) -> int:
    """Converts the photographs of a chunk and writes it; returns how many there are."""
    outcomes = function(task.photographs)
    faces = [
        face for outcome in outcomes if not isinstance(outcome, str) for face in outcome
    ]
    index = [
        outcome
        if isinstance(outcome, str)
        else [
            (len(face.encoded), round(float(face.height), 2), face.fingerprint.hex())
            for face in outcome
        ]
        for outcome in outcomes
    ]
    stem = directory / f'{task.chunk:05d}'
    _write(stem.with_suffix('.faces'), b''.join(face.encoded for face in faces))
    _write(stem.with_suffix('.json'), encode_json(index))
    return len(task.photographs)


def run_in_processes(function: Callable, tasks: Iterable, *, workers: int) -> Iterator:
    """`map` over processes, results as they come, two tasks per process ahead.

    Raises:
      DatasetError: a process died.
    """
    # Not forked: TensorFlow and JAX have threads, which a fork does not copy.
    context = multiprocessing.get_context('spawn')
    pool = futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker
    )
    tasks = iter(tasks)

    def submit(count):
        return {pool.submit(function, task) for task in itertools.islice(tasks, count)}

    try:
        pending = submit(2 * workers)
        while pending:
            done, pending = futures.wait(pending, return_when=futures.FIRST_COMPLETED)
            yield from (future.result() for future in done)
            pending |= submit(len(done))
    except futures.process.BrokenProcessPool as error:
        raise records.DatasetError(
            'A process that converted photographs died; most often memory ran out. '
            'The same command continues from here; --workers=1 needs the least memory.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def run_on_beam(runner: str, function: Callable, tasks: Iterable) -> Iterator:
    """`map` by Apache Beam, on workers that see the same files.

    Args:
      runner: Beam's name, such as `DirectRunner`.
      function, tasks: as for `map`; all tasks are drawn at once.

    Raises:
      DatasetError: apache-beam is not installed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise records.DatasetError(
            "--runner=beam needs apache-beam: pip install 'sicnn_jax[beam]'."
        ) from error
    tasks = list(tasks)
    # Beam must not parse the flags of the command.
    options = PipelineOptions(flags=[], runner=runner)
    with beam.Pipeline(options=options) as pipeline:
        _ = pipeline | beam.Create(tasks) | beam.Reshuffle() | beam.Map(function)
    return (len(task.photographs) for task in tasks)


def _start_worker():
    """Sets up a process: one thread, ends with its parent, ignores interruptions."""
    # Libraries read these when they are first imported.
    for name in ('TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS', 'OMP_NUM_THREADS'):
        os.environ.setdefault(name, '1')
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    # A process waiting for work would never notice that its parent was killed.
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)


def _write(path, content):
    # Two workers of a Beam runner may be given the same chunk.
    write_whole(path, content, mark=str(os.getpid()))
