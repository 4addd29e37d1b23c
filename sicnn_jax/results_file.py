"""Writes files whole or not at all, and results as JSON with their machine."""

import errno
import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sicnn_jax import names


def environment() -> dict[str, Any]:
    """The device, the machine and versions of libraries."""
    # Imported here: the processes that `prepare` starts write files without JAX.
    import jax

    return {
        'device': jax.devices()[0].device_kind,
        'machine': platform.processor() or platform.machine(),
        'versions': {'jax': jax.__version__, 'numpy': np.__version__},
    }


def write_results(results: Mapping[str, Any], path: Path, *, indent: int = 2) -> None:
    """Writes a whole JSON file."""
    write_whole(path, encode_json(results, indent=indent) + b'\n')


def encode_json(value: Any, *, indent: int | None = None) -> bytes:
    """Encodes JSON with any names of files in it, see `names.printable`."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return names.encode(text, backslash='\\\\')


def read_json(path: Path, *fields: str) -> dict[str, Any]:
    """The content of a JSON file that a run wrote and that must have these fields.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is not such a file, or fields are missing; the file is named.
    """
    try:
        found = dict(json.loads(path.read_text(encoding='utf-8')))
        missing = [repr(field) for field in fields if field not in found]
        if missing:
            raise ValueError(f'it lacks {", ".join(missing)}')
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f'{path} is damaged, or another program wrote it: {error}. Copy an intact '
            'one, or repeat the command that wrote it.'
        ) from error
    return found


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Lines of JSON, as text and as values; none if there is no file.

    Reading ends at half a line, which a killed run may leave.
    """
    for line in path.read_text(encoding='utf-8').splitlines() if path.is_file() else ():
        try:
            yield line, json.loads(line)
        except json.JSONDecodeError:
            return


def write_whole(path: Path, data: bytes, *, mark: str = 'unfinished') -> None:
    """Writes a file, first under a temporary name; makes its folders if needed.

    The temporary name ends with `mark`: processes that may write the same file at once
    each need their own.
    """
    unfinished = path.with_name(f'{path.name}.{mark}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        # The temporary name means nothing to users.
        error.filename, error.filename2 = os.fspath(path), None
        raise


def is_full(error: BaseException) -> bool:
    """Whether an error means that no space is left, whichever library raised it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # Errors of TensorStore, TensorFlow and shutil say it in words.
    text = str(error)
    return any(os.strerror(code) in text for code in (errno.ENOSPC, errno.EDQUOT))
