"""The files to hallucinate: how each is called, what it is measured against."""

import dataclasses
import mimetypes
import os
from collections.abc import Iterable
from pathlib import Path

from sicnn_jax.names import canonical, find, printable


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


def list_jobs(inputs: Iterable[str | os.PathLike], out: Path) -> list[Job]:
    """The files that inputs stand for, each with a name of its own.

    Of folders, those that are images by their names; hidden ones, and what lies in
    `out`, are passed over.
    """
    found = [pair for path in inputs for pair in _expand(Path(path), out.resolve())]
    jobs, taken = [], set()
    for path, key in found:
        # `a.jpg` and `a.png` in one folder, or two folders with the same names.
        numbered = (f'{key}_{number}' for number in range(2, len(found) + 2))
        candidates = (os.path.splitext(key)[0], key, *numbered)
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        jobs.append(Job(path, printable(key), name))
    return jobs


def find_reference(reference: Path, job: Job) -> Path | None:
    """The original of a file: `reference` itself, or what has its name in it.

    Its suffix may be another. None where there is none.
    """
    if not reference.is_dir():
        return reference
    exact = Path(find(reference / job.key))
    if exact.is_file():
        return exact
    beside = exact.parent.iterdir() if exact.parent.is_dir() else ()
    wanted = canonical(exact.stem)
    return min(
        (
            path
            for path in beside
            if canonical(path.stem) == wanted and _is_image(path.name)
        ),
        default=None,
    )


def _is_image(name):
    # mimetypes would take what follows a `?` or `#` in the name for no part of it.
    kind, _ = mimetypes.guess_type('x' + Path(name).suffix, strict=False)
    return kind is not None and kind.startswith('image/')


def _expand(path, out):
    if not path.is_dir():
        yield path, path.name
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith('.') and Path(folder, name).resolve() != out
        )
        for name in sorted(names):
            if _is_image(name) and not name.startswith('.'):
                file = Path(folder, name)
                yield file, file.relative_to(path).as_posix()
