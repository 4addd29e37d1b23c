"""Runs notebooks from top to bottom. Needs the extra `notebook`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbclient
import nbformat


def execute(
    path: Path, folder: Path, parameters: Mapping[str, Any] = {}, timeout: float = 3600
) -> Any:
    """A notebook after all of its cells ran.

    Args:
      path: of the notebook.
      folder: that it runs in.
      parameters: that replace those of the cell with the tag `parameters`.
      timeout: seconds for a cell.

    Raises:
      KeyError: that cell sets no such parameter.
      CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [
        cell for cell in notebook.cells if 'parameters' in cell.metadata.get('tags', ())
    ]
    original = cell.source
    for name in parameters:
        if not re.search(rf'\b{name}\b', original):
            raise KeyError(f'{path.name} has no parameter {name}.')
    lines = [f'{name} = {value!r}' for name, value in parameters.items()]
    cell.source = '\n'.join([original, *lines])
    client = nbclient.NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name='python3',
        resources={'metadata': {'path': str(folder)}},
    )
    client.execute()
    cell.source = original
    for cell in notebook.cells:
        # When, is of no interest, and would differ each time.
        cell.metadata.pop('execution', None)
    return notebook
