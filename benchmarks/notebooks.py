"""Runs the notebooks of launch/ from top to bottom and keeps their outputs.

    python -m benchmarks.notebooks --only=losses_as_library

With the settings that are in them: launch/sicnn_colab.ipynb trains the demo. Needs the
extra `notebook`.
"""

import argparse
import contextlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbclient
import nbformat

from sicnn_jax.results_file import write_whole

LAUNCH = Path(__file__).parent.parent / 'launch'


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [path.stem for path in sorted(LAUNCH.glob('*.ipynb'))]
    parser.add_argument('--only', choices=names, help='default: all of them')
    parser.add_argument('--folder', type=Path, help='to run in; default: a new one')
    arguments = parser.parse_args()
    root = str(LAUNCH.parent)
    os.environ['PYTHONPATH'] = os.pathsep.join(
        filter(None, [root, os.environ.get('PYTHONPATH')])
    )
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or stack.enter_context(tempfile.TemporaryDirectory())
        for name in [arguments.only] if arguments.only else names:
            path = LAUNCH / f'{name}.ipynb'
            notebook = execute(path, Path(folder))
            write_whole(path, (nbformat.writes(notebook) + '\n').encode())
            print(f'{path} ran and is written.', flush=True)


if __name__ == '__main__':
    main()
