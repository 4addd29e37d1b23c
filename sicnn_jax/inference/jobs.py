"""The files to hallucinate: how each is called, what it is measured against."""

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from sicnn_jax.data import folders
from sicnn_jax.names import printable

REPORT = 'report.json'
# What is written of a file with the name in front.
_WRITTEN = re.compile(r'(.+)_(?:face\d+(?:_compare)?|pasted)\.png', re.DOTALL)
_RESULT, _RESULTS = 'written by an earlier run', 'folders of results'


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to hallucinate.

    Attributes:
      path: of the file.
      key: what landmarks, references and the report call it: its path below the
        folder that was given, with /, or its name; printable.
      name: of what is written, without the ends `_face0.png` and so on.
    """

    path: Path
    key: str
    name: str


class Listed(NamedTuple):
    """The files that inputs stand for, what else lies there, and what `out` holds."""

    jobs: list[Job]
    passed_over: folders.PassedOver
    written_before: list[str]


def list_jobs(inputs: Iterable[str | os.PathLike], out: Path) -> Listed:
    """The files that inputs stand for, each with a name of its own.

    Of folders, their pictures. What lies in `out` is passed over where that is a folder
    below them, and wherever it is, what an earlier report there says was written.
    """
    passed_over = folders.PassedOver()
    before = _written_before(out)
    results = [*before, REPORT] if before else []
    skip = {os.path.realpath(out / name): _RESULT for name in results}
    skip[os.path.realpath(out)] = _RESULTS
    found = [pair for path in inputs for pair in _expand(Path(path), skip, passed_over)]
    jobs, taken = [], {*_overwriting(found, out)}
    for path, key in found:
        # `a.jpg` and `a.png` in one folder, or two folders with the same names.
        numbered = (f'{key}_{number}' for number in itertools.count(2))
        candidates = itertools.chain((os.path.splitext(key)[0], key), numbered)
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        jobs.append(Job(path, printable(key), name))
    return Listed(jobs, passed_over, before)


def _overwriting(found, out):
    """Names whose results would be written over one of the files."""
    root = os.path.realpath(out)
    for path, _ in found:
        match = _WRITTEN.fullmatch(os.path.relpath(os.path.realpath(path), root))
        if match:
            yield Path(match[1]).as_posix()


def find_reference(reference: Path, job: Job) -> Path | None:
    """The original of a file: `reference` itself, or what has its name in it.

    Its suffix may be another. None where there is none.
    """
    if not reference.is_dir():
        return reference
    found = folders.beside(reference / job.key)
    return None if found is None else Path(found)


def _expand(path, skip, passed_over):
    if path.is_dir():
        for key in folders.walk(path, passed_over, skip):
            yield path / key, key
    elif reason := skip.get(os.path.realpath(path)):
        passed_over.add(path.name, reason)
    else:
        yield path, path.name


def _written_before(out):
    """What the report in a folder says was written there, as far as it still is."""
    try:
        report = json.loads((out / REPORT).read_text(encoding='utf-8'))
    # The report of another program, or none.
    except (OSError, ValueError):
        return []
    if not isinstance(report, Mapping):
        return []
    names = [*_of(report.get('written_before'), str)]
    for entry in _of(report.get('files'), Mapping):
        names += _of(entry.get('written'), str)
    return sorted(name for name in {*names} if os.path.isfile(out / name))


def _of(values, kind):
    """What of a list is as a report of ours has it; nothing if it is no list."""
    values = values if isinstance(values, list) else ()
    return [value for value in values if isinstance(value, kind)]
