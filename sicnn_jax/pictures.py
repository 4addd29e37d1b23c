"""Grids of faces as PNG, with a title over each column."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sicnn_jax.images import HEIGHT, WIDTH

_GAP = 4
_TITLE = 16


def enlarge_pixels(lr: np.ndarray) -> np.ndarray:
    """Nearest-neighbour enlargement, to see an input as it is.

    uint8 [n, 112 / s, 96 / s, 3] → uint8 [n, 112, 96, 3].
    """
    factor = HEIGHT // lr.shape[1]
    return lr.repeat(factor, axis=1).repeat(factor, axis=2)


def save_grid(path: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> None:
    """Writes one row a face and one column a method.

    Args:
      path: of the PNG; written under a temporary name first.
      columns: title → uint8 [n, 112, 96, 3], the same n everywhere.
    """
    rows = len(next(iter(columns.values())))
    size = (
        len(columns) * (WIDTH + _GAP) + _GAP,
        rows * (HEIGHT + _GAP) + _TITLE + _GAP,
    )
    sheet = Image.new('RGB', size, 'white')
    draw = ImageDraw.Draw(sheet)
    for column, (title, faces) in enumerate(columns.items()):
        left = _GAP + column * (WIDTH + _GAP)
        draw.text((left + WIDTH // 2, _TITLE // 2), title, fill='black', anchor='mm')
        for row, face in enumerate(faces):
            top = _TITLE + row * (HEIGHT + _GAP)
            sheet.paste(Image.fromarray(np.asarray(face)), (left, top))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix('.unfinished.png')
    sheet.save(unfinished)
    unfinished.replace(path)
