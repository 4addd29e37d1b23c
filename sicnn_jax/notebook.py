"""Trains with live curves and pictures in a notebook, and shows tables.

It needs IPython, which every notebook has.
"""

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from sicnn_jax import parallel, paths, train
from sicnn_jax.reports import curves
from sicnn_jax.reports.html_page import image_source
from sicnn_jax.workdir import stage_directory

__all__ = ['LOG', 'describe_progress', 'show_faces', 'train_live']

LOG = 'train.log'


def train_live(
    config: ConfigDict, workdir: str | os.PathLike, every: float = 10
) -> None:
    """`train.run` in a thread, with the stage's curves and pictures in the cell.

    The output of training goes to `train.log` in the workdir. Interrupting the cell
    ends the step, saves and stops; the same call continues.

    `every` is the number of seconds between two updates of the cell.

    Raises:
      Exception: any error of training.
    """
    from IPython.display import HTML, display

    parallel.divide_cpu(config.cpu_devices)
    workdir = paths.local(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    stop, errors = threading.Event(), []

    def work():
        try:
            train.run(config, workdir, asked_to_stop=stop.is_set)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    shown = display(HTML('Starting …'), display_id=True)
    with (
        open(workdir / LOG, 'a', encoding='utf-8') as log,
        contextlib.redirect_stdout(log),
    ):
        thread.start()
        while thread.is_alive():
            try:
                thread.join(every)
            except KeyboardInterrupt:
                stop.set()
            shown.update(HTML(describe_progress(config, workdir)))
    if errors:
        raise errors[0]


def describe_progress(config: ConfigDict, workdir: Path) -> str:
    """The progress of a run as HTML: curves and newest picture of the current stage."""
    begun = []
    for name in config.stages:
        directory = stage_directory(config, name, workdir)
        if lines := curves.read_metrics(directory):
            begun.append((name, directory, lines))
    if not begun:
        return 'Making data and compiling …'
    name, directory, lines = begun[-1]
    done = [f'{past} done' for past, _, _ in begun[:-1]]
    now = f'<b>{name}</b>: step {lines[-1]["step"]:,} of {config[name].steps:,}'
    pictures = sorted((directory / 'samples').glob('*.png'))
    picture = ''
    if pictures:
        with Image.open(pictures[-1]) as image:
            picture = f'<p><img src="{image_source(np.asarray(image.convert("RGB")))}">'
    return f'<p>{", ".join([*done, now])}</p>{curves.draw_curves(lines)}{picture}'


def show_faces(titled: Sequence[tuple[np.ndarray, str]], columns: int = 4) -> None:
    """Shows pictures uint8 [h, w, 3] with their titles, `columns` in a row."""
    from IPython.display import HTML, display

    cells = [
        f'<figure style="display: inline-block; margin: 4px; width: 150px">'
        f'<img src="{image_source(image)}" style="width: 144px">'
        f'<figcaption>{title}</figcaption></figure>'
        for image, title in titled
    ]
    rows = [''.join(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    display(HTML('<br>'.join(rows)))
