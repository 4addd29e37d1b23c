"""Writes grids of faces and clouds of points as PNG, with a title over each column."""

import colorsys
import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from sicnn_jax.images import HEIGHT, WIDTH
from sicnn_jax.results_file import write_whole

_GAP, _TITLE = 4, 16
_PANEL, _MARGIN, _RADIUS = 420, 16, 4


def enlarge_pixels(lr: np.ndarray) -> np.ndarray:
    """Nearest-neighbour enlargement, which shows the pixels of an input.

    uint8 [n, 112 / s, 96 / s, 3] → uint8 [n, 112, 96, 3].
    """
    factor = HEIGHT // lr.shape[1]
    return lr.repeat(factor, axis=1).repeat(factor, axis=2)


def save(path: str | os.PathLike, picture: Image.Image) -> None:
    """Writes a whole PNG, with sRGB as its colour space."""
    buffer = io.BytesIO()
    colours = PngImagePlugin.PngInfo()
    # 0, perceptual: how viewers adapt colours that the screen lacks.
    colours.add(b'sRGB', bytes([0]))
    picture.save(buffer, 'png', pnginfo=colours)
    write_whole(Path(path), buffer.getvalue())


def save_grid(path: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> None:
    """Writes one row per face and one column per method.

    Args:
      path: of the PNG.
      columns: title → uint8 [n, 112, 96, 3], the same n everywhere.
    """
    rows = len(next(iter(columns.values())))
    width = len(columns) * (WIDTH + _GAP) + _GAP
    height = rows * (HEIGHT + _GAP) + _TITLE + _GAP
    sheet = Image.new('RGB', (width, height), 'white')
    draw = ImageDraw.Draw(sheet)
    for column, (title, faces) in enumerate(columns.items()):
        left = _GAP + column * (WIDTH + _GAP)
        # Pillow's font has no multiplication sign.
        text = title.replace('×', 'x')
        draw.text((left + WIDTH // 2, _TITLE // 2), text, fill='black', anchor='mm')
        for row, face in enumerate(faces):
            top = _TITLE + row * (HEIGHT + _GAP)
            sheet.paste(Image.fromarray(np.asarray(face)), (left, top))
    save(path, sheet)


def save_scatter(
    path: str | os.PathLike,
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    colours: np.ndarray,
) -> None:
    """Writes clouds of points side by side: SR as rings, HR as discs.

    Args:
      path: of the PNG.
      panels: title → the points of SR and of HR, [n, 2] each.
      colours: int [n]; points with the same number have the same colour.
    """
    sheet = Image.new('RGB', (len(panels) * _PANEL, _PANEL + _TITLE), 'white')
    draw = ImageDraw.Draw(sheet)
    hues = [
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.9, 0.8))
        for hue in np.linspace(0, 1, int(colours.max()) + 1, endpoint=False)
    ]
    for column, (title, clouds) in enumerate(panels.items()):
        left = column * _PANEL
        draw.text((left + _PANEL // 2, _TITLE // 2), title, fill='black', anchor='mm')
        points = np.concatenate(clouds)
        low, high = points.min(0), points.max(0)
        inner = _PANEL - 2 * _MARGIN
        for cloud, is_hr in zip(clouds, (False, True), strict=True):
            placed = (cloud - low) / np.maximum(high - low, 1e-9) * inner + _MARGIN
            placed += (left, _TITLE)
            for (x, y), colour in zip(placed, colours, strict=True):
                box = (x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS)
                fill = hues[colour] if is_hr else None
                draw.ellipse(box, fill=fill, outline=hues[colour])
    save(path, sheet)
