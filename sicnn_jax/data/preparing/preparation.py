"""Turns a source into a data set, for `python -m sicnn_jax.data.prepare`."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from sicnn_jax import lock, paths
from sicnn_jax.data import align, records, runtime, write_records
from sicnn_jax.data.preparing import (
    convert,
    degraded,
    outcome,
    overlap,
    selection,
    sources,
    spool,
)
from sicnn_jax.data.preparing.settings import Settings
from sicnn_jax.names import ByName, printable

__all__ = ['prepare']

_BEAM = 'beam:'
_DEFAULTS = Settings()


def _unfinished(out):
    """The directory where faces wait until all of the data set are made."""
    out = paths.local(out).absolute()
    return out.with_name(f'.{out.name}.unfinished')


@lock.one_at_a_time(lambda source, out, *_, **__: _unfinished(out))
def prepare(
    source: str | os.PathLike,
    out: str | os.PathLike,
    settings: Settings = _DEFAULTS,
    *,
    data_dir: str | None = None,
    list_root: str | os.PathLike | None = None,
    overwrite: bool = False,
    name: str | None = None,
    workers: int | None = None,
    runner: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Aligns the faces of a source and writes them as a data set.

    Training faces are written in random order, so that the faces of each identity are
    spread over all shards; test faces are written in the order of their keys. A source
    that has splits keeps them, and its order.

    Until all photographs are read, faces wait in `.OUT.unfinished` next to `out`. After
    an interruption, a call with the same settings continues from there, and writes the
    same data set as an uninterrupted one.

    Args:
      source: see `sources.CHOICES`.
      out: the directory of the data set.
      settings: how the photographs are processed.
      data_dir: where TFDS keeps its data sets.
      list_root: the directory above the images of a list; by default the list's own.
      overwrite: replace the content of `out`.
      name: the field `source` of each record; by default the name of the source.
      workers: number of processes; by default one per processor.
      runner: `beam:RUNNER` to convert by Apache Beam instead.
      progress: called with the number of images done and the number of all images.

    Returns:
      The report, as in `report.json`: settings; identities and images of each split;
      `images_per_identity`; quantiles of `face_height`; `skipped_by_reason`, counts;
      `skipped`, a list of {'file', 'reason'}.

    Raises:
      InUseError: another process writes to `out`.
      DatasetError: source or landmarks are missing or unusable, `out` is not empty and
        `overwrite` is not set, an interrupted run had other settings, or no face
        remains.
      TensorFlowMissingError: the extra `records` is not installed.
    """
    # A source that is not a path, such as tfds:NAME, stays as it is.
    source = paths.expand(source)
    out = paths.in_utf8(paths.local(out)).absolute()
    list_root = None if list_root is None else paths.local(list_root)
    # TFDS also reads from buckets.
    data_dir = data_dir and os.path.expanduser(data_dir)
    settings = settings.local()
    unfinished = spool.Spool(_unfinished(out))
    overwrite = overwrite or unfinished.publishing
    _check_out(out, overwrite)
    # It is needed at the end, perhaps hours later.
    runtime.check_tensorflow()
    function = _function(settings)
    excluded = overlap.read_excluded(settings.exclude)
    opened, listed, points = _open(source, settings, data_dir, list_root)

    run = _runner(function, opened, workers, runner)
    unfinished.start(_made_with(source, opened, points, function), len(opened.keys))
    _convert_all(function, opened, points, unfinished, run, progress)
    made = _choose(unfinished, source, opened, excluded, listed, settings)

    unfinished.begin_publishing()
    info = write_records.write_dataset(
        out,
        _splits(made, printable(name or opened.name)),
        alignment=function.describe(opened.alignment),
        identities=_labels(opened.labels, made.selected, made.candidates.names),
        encoding=settings.encoding,
        overwrite=overwrite,
    )
    result = outcome.write_report(out, source, opened, made, info, settings)
    unfinished.remove()
    return result


def _open(source, settings, data_dir, list_root):
    """The source, the people of the test list and the landmarks of its photographs."""
    opened = sources.open_source(source, data_dir, list_root, settings.identity)
    _check_splits(opened, source, settings)
    listed = _read_test_list(settings, opened.identities, source)
    return opened, listed, _read_points(settings.landmarks, opened.keys, source)


def _check_out(out, overwrite):
    if out.exists() and not out.is_dir():
        raise records.DatasetError(f'{out} is a file; expected a directory.')
    # An interrupted run may have left hidden files.
    found = out.exists() and any(
        not path.name.startswith('.') for path in out.iterdir()
    )
    if found and not overwrite:
        raise records.DatasetError(
            f'{out} is not empty; choose another directory, or --overwrite it.'
        )


def _function(settings):
    """The function that makes faces from photographs."""
    if settings.degrade is None:
        return _converter(settings)
    if settings.landmarks is not None or settings.detect or settings.exclude:
        raise records.DatasetError(
            'degrade keeps the faces and splits of a data set as they are: leave out '
            'landmarks, detect and exclude.'
        )
    stage = settings.checkpoint and os.fspath(settings.checkpoint)
    return degraded.Degrade(
        settings.degrade, settings.degradation, stage, settings.encoding
    )


def _converter(settings):
    if settings.encoding not in records.ENCODINGS:
        raise records.DatasetError(
            f'encoding is {settings.encoding!r}; it must be one of {records.ENCODINGS}.'
        )
    if settings.landmarks is not None and settings.detect:
        raise records.DatasetError(
            'Both landmarks and detect are set; give one of them.'
        )
    faces = settings.faces
    if faces not in convert.FACES or (faces != 'largest' and not settings.detect):
        raise records.DatasetError(
            f'faces is {faces!r}; it must be one of {convert.FACES}, and `largest` '
            'without detect.'
        )
    placement = convert.CENTER
    if settings.landmarks is not None:
        placement = convert.LANDMARKS
    elif settings.detect:
        placement = convert.DETECT
    if settings.rotations and not settings.detect:
        raise records.DatasetError('rotations needs detect: set both, or neither.')
    return convert.Convert(
        placement,
        faces,
        settings.min_size,
        settings.min_height,
        settings.encoding,
        settings.rotations,
    )


def _check_splits(opened, source, settings):
    if opened.splits is not None and (settings.test_identities or settings.test_list):
        raise records.DatasetError(
            f'{source} has its own splits, {", ".join(sorted(set(opened.splits)))}, '
            'which are kept: leave out test_identities and test_list.'
        )
    if settings.degrade is not None and opened.alignment is None:
        raise records.DatasetError(
            f'{source} is not a data set that this command wrote; degrade needs one.'
        )


def _read_points(path, keys, source):
    """Landmarks by key; none if there is no file of landmarks."""
    if path is None:
        return {}
    points = align.read_landmarks(path)
    if not any(key in points for key in keys):
        example = next(iter(points), 'nothing')
        raise records.DatasetError(
            f'{path} has landmarks for none of the images of {source}: it names '
            f'{example}, but an image is called {keys[0]}. Paths must be relative '
            'to the source.'
        )
    return points


def _read_test_list(settings, identities, source):
    path = settings.test_list
    if path is None:
        return frozenset()
    if settings.test_identities:
        raise records.DatasetError(
            'Both test_identities and test_list are set; give one of them.'
        )
    names = overlap.read_names(path)
    known = ByName(dict.fromkeys(identities))
    unknown = sorted(name for name in names if name not in known)
    if unknown:
        raise records.DatasetError(
            f'{path} names {len(unknown)} identities without images in {source}, such '
            f'as {unknown[0]!r}.'
        )
    return frozenset(known.spelling(name) for name in names)


def _made_with(source, opened, points, function):
    """The settings that must be the same to continue an interrupted run."""
    digest = hashlib.sha256()
    for key in opened.keys:
        digest.update(key.encode() + b'\0')
        if key in points:
            digest.update(points[key].tobytes())
    return {
        'source': outcome.where(source),
        'photographs': digest.hexdigest(),
        **dataclasses.asdict(function),
    }


def _runner(function, opened, workers, runner):
    """The function of (function, tasks) that maps the tasks."""
    if isinstance(function, degraded.Degrade):
        return map
    if runner is not None:
        if not runner.startswith(_BEAM):
            raise records.DatasetError(
                f'runner is {runner!r}; expected beam:RUNNER, as in beam:DirectRunner.'
            )
        if not opened.in_files:
            raise records.DatasetError(
                f'{opened.name} can only be read in order, by one process; Beam needs '
                'a folder, a list or a RecordIO set.'
            )
        return functools.partial(spool.run_on_beam, runner.removeprefix(_BEAM))
    if workers is None:
        workers = runtime.num_cpus()
    if workers < 1:
        raise records.DatasetError(f'workers is {workers}; expected 1 or more.')
    if workers == 1:
        return map
    return functools.partial(spool.run_in_processes, workers=workers)


def _convert_all(function, opened, points, unfinished, run, progress):
    """Converts the photographs that are not yet in the spool."""

    def read(chunk):
        span = spool.span(chunk)
        keys = opened.keys[span]
        contents = opened.read(span.start, span.start + len(keys))
        found = zip(keys, contents, map(points.get, keys), strict=True)
        return spool.Task(chunk, [convert.Photograph(*one) for one in found])

    total = len(opened.keys)
    missing = unfinished.missing()
    done = total - sum(len(opened.keys[spool.span(chunk)]) for chunk in missing)
    progress(done, total)
    write = functools.partial(spool.write_chunk, function, unfinished.directory)
    # A single chunk is done before a process would have started.
    run = run if len(missing) > 1 else map
    for converted in run(write, (read(chunk) for chunk in missing)):
        done += converted
        progress(done, total)


def _choose(unfinished, source, opened, excluded, listed, settings):
    """Chooses which of the faces that were made are kept, and in which split.

    Raises DatasetError if none is; what was made is removed then.
    """
    made, reasons = unfinished.load()
    candidates = selection.Faces(
        keys=[_key(opened.keys[face['item']], face['number']) for face in made],
        names=np.array(opened.identities, object)[made['item']],
        fingerprints=made['fingerprint'],
    )
    given = opened.splits and [opened.splits[item] for item in made['item']]
    selected = selection.Selection(candidates, given)
    if settings.degrade is None:
        selected.exclude_identities(excluded.identities, listed)
        selected.drop_rare(settings.min_images, listed)
        selected.split(listed, settings.test_identities, settings.seed)
        selected.drop_duplicates(excluded, settings.duplicate_bits)
        selected.drop_rare(settings.min_images)
    skipped = [
        *((opened.keys[item], reason) for item, reason in reasons.items()),
        *((candidates.keys[i], reason) for i, reason in selected.rejected),
    ]
    entries = [{'file': file, 'reason': reason} for file, reason in sorted(skipped)]
    if not selected.filled():
        unfinished.remove()
        raise records.DatasetError(outcome.nothing_left(source, entries))
    return outcome.Made(unfinished, made, candidates, selected, entries)


def _key(photograph, number):
    """The key of a face: its photograph's, with a number from the second face on."""
    return f'{photograph}#{number}' if number else photograph


def _splits(made, source_name):
    """The faces that are kept, by split."""
    return {
        split: (
            records.Face(
                image=made.unfinished.read(made.faces[i]),
                name=made.candidates.names[i],
                key=made.candidates.keys[i],
                source=source_name,
            )
            for i in kept
        )
        for split, kept in made.selected.filled().items()
    }


def _labels(labels, selected, names):
    """The names of labels: all that occur, or the source's labels that are kept."""
    found = {split: set(names[kept]) for split, kept in selected.filled().items()}
    if labels is None:
        return {split: sorted(people) for split, people in found.items()}
    gone = {names[i] for i, _ in selected.rejected}
    return {
        split: [name for name in labels[split] if name in people or name not in gone]
        for split, people in found.items()
    }
