"""The files to hallucinate: their names, and the originals to measure them against."""

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
# The names of results, which begin with the name of the file.
_WRITTEN = re.compile(r'(.+)_(?:face\d+(?:_compare)?|pasted)\.png', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to hallucinate.

    Attributes:
      path: of the file.
      key: its printable name in landmarks, references and the report: its path below
        the given folder, with /, or its file name.
      name: of its results, without endings such as `_face0.png`.
    """

    path: Path
    key: str
    name: str


class Listed(NamedTuple):
    """The files of the inputs, other files there, and the results that `out` holds."""

    jobs: list[Job]
    passed_over: folders.PassedOver
    written_before: list[str]


def list_jobs(inputs: Iterable[str | os.PathLike], out: Path) -> Listed:
    """The files of the inputs, each with its own name.

    A folder stands for its pictures. Files in `out` are passed over if it lies below
    such a folder. Files that an earlier report in `out` lists as written are always
    passed over.
    """
    passed_over = folders.PassedOver()
    before = _written_before(out)
    results = [*before, REPORT] if before else []
    skip = {
        os.path.realpath(out / name): 'written by an earlier run' for name in results
    }
    skip[os.path.realpath(out)] = 'folders of results'
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
    """Names whose results would overwrite one of the files."""
    root = os.path.realpath(out)
    for path, _ in found:
        name = os.path.relpath(os.path.realpath(path), root)
        if match := _WRITTEN.fullmatch(name):
            yield Path(match[1]).as_posix()


def find_reference(reference: Path, job: Job) -> Path | None:
    """The original of a file, or None.

    It is `reference` itself or, in a folder, the file of that name with any suffix.
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
    """Files that the report in a folder lists as written and that still exist."""
    try:
        report = json.loads((out / REPORT).read_text(encoding='utf-8'))
    # There is no report, or it is another program's.
    except (OSError, ValueError):
        return []
    if not isinstance(report, Mapping):
        return []
    names = _of(report.get('written_before'), str)
    for entry in _of(report.get('files'), Mapping):
        names += _of(entry.get('written'), str)
    return sorted(name for name in {*names} if os.path.isfile(out / name))


def _of(values, kind):
    """The values of a list that are of this kind; none if it is not a list."""
    values = values if isinstance(values, list) else ()
    return [value for value in values if isinstance(value, kind)]
