"""Parts of HTML pages that are one file and request nothing from elsewhere."""

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

_BARS = 30
_WIDTH, _HEIGHT = 640, 160
_CHART_WIDTH, _CHART_HEIGHT, _MARGIN = 300, 150, 52

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto;
  padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { padding: .15em .8em; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
tr:nth-child(even) { background: #f4f4f4; } summary { cursor: pointer; }
svg { background: #f8f8f8; } rect { fill: #4a76a8; } img { max-width: 100%; }
code { overflow-wrap: anywhere; }
"""


class Figure(str):
    """The text of a number, which tables align to the right."""


def page(title: str, sections: Iterable[tuple[str, str]], style: str = '') -> str:
    """A whole page.

    Args:
      title: plain text.
      sections: heading (plain text) and content (HTML) of each.
      style: CSS to add to `STYLE`.
    """
    title = html.escape(title)
    body = ''.join(
        f'<h2>{html.escape(name)}</h2>\n{content}\n' for name, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{title}</title><style>{STYLE}{style}</style></head>\n'
        f'<body><h1>{title}</h1>\n{body}</body></html>\n'
    )


def left_out(reason: str) -> str:
    """A section that says why it is empty."""
    return f'<p>Left out: {html.escape(reason.removesuffix("."))}.</p>'


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows of whole numbers, `Figure`s and plain text."""
    head = ''.join(f'<th>{html.escape(column)}</th>' for column in columns)
    body = ''.join('<tr>' + ''.join(map(_cell, row)) + '</tr>\n' for row in rows)
    return f'<table><tr>{head}</tr>\n{body}</table>'


def _cell(value):
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    if isinstance(value, Figure):
        return f'<td class="n">{html.escape(value)}</td>'
    return f'<td><code>{html.escape(value)}</code></td>'


def details(summary: str, content: str) -> str:
    """HTML that is shown when its summary (plain text) is opened."""
    return f'<details><summary>{html.escape(summary)}</summary>{content}</details>'


def histogram(
    values: Sequence[float] | np.ndarray,
    unit: str,
    of: str,
    limits: tuple[float, float] | None = None,
) -> str:
    """Bars as SVG, the tallest as high as the picture.

    Args:
      values: what to count, [n], n ≥ 1.
      unit: of the values.
      of: what is counted.
      limits: of the axis; by default the extremes of the values.
    """
    counts, edges = np.histogram(values, bins=_BARS, range=limits)
    whole = np.all(np.equal(np.mod(values, 1), 0))
    if limits is None and whole and np.ptp(values) < _BARS:
        # For few whole numbers, there is a bar for each.
        low, high = int(np.min(values)), int(np.max(values))
        counts, edges = np.histogram(values, bins=np.arange(low, high + 2) - 0.5)
    width = _WIDTH / len(counts)
    bars = ''.join(
        f'<rect x="{i * width:.1f}" y="{_HEIGHT - height:.1f}" '
        f'width="{max(width - 1, 1):.1f}" height="{height:.1f}">'
        f'<title>{edges[i]:.4g} to {edges[i + 1]:.4g} {unit}: {count:,} {of}</title>'
        '</rect>'
        for i, count in enumerate(counts)
        for height in [_HEIGHT * count / max(counts.max(), 1)]
    )
    least, most = limits or (np.min(values), np.max(values))
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{bars}</svg>'
        f'<p>{least:.6g} to {most:.6g} {unit}; up to {counts.max():,} {of} per bar.</p>'
    )


def line_chart(
    title: str, points: Sequence[tuple[float, float]], *, logarithmic: bool = False
) -> str:
    """A curve over steps as SVG, with its extreme values.

    Args:
      title: plain text.
      points: (step, y), n ≥ 1, steps rising, y finite.
      logarithmic: whether the axis of y is; then y > 0.
    """
    x, y = np.array(points, float).T
    right, bottom = _CHART_WIDTH - 8, _CHART_HEIGHT - 20
    across = _scaled(x, _MARGIN, right)
    down = _scaled(np.log(y) if logarithmic else y, bottom, 10)
    line = ' '.join(
        f'{left:.1f},{top:.1f}' for left, top in zip(across, down, strict=True)
    )
    marks = ''.join(
        f'<line stroke="#ddd" x1="{_MARGIN}" x2="{right}" y1="{top}" y2="{top}"/>'
        f'<text x="{_MARGIN - 4}" y="{top + 4}" text-anchor="end">{value:.3g}</text>'
        for value, top in ((y.max(), 10), (y.min(), bottom))
    )
    ends = (
        f'<text x="{_MARGIN}" y="{_CHART_HEIGHT - 4}">{x[0]:,.0f}</text>'
        f'<text x="{right}" y="{_CHART_HEIGHT - 4}" text-anchor="end">'
        f'step {x[-1]:,.0f}</text>'
    )
    scale = ', logarithmic' if logarithmic else ''
    return (
        '<figure style="display: inline-block; margin: 0 1em 1em 0">'
        f'<svg width="{_CHART_WIDTH}" height="{_CHART_HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="11" fill="#555">'
        f'{marks}{ends}<polyline points="{line}" fill="none" stroke="#4a76a8" '
        'stroke-width="1.5"/>'
        f'<circle cx="{across[-1]:.1f}" cy="{down[-1]:.1f}" r="2.5" fill="#4a76a8"/>'
        f'</svg><figcaption>{html.escape(title)}: {y[-1]:.4g} at the end{scale}'
        '</figcaption></figure>'
    )


def _scaled(values, low, high):
    span = np.ptp(values)
    share = (values - values.min()) / span if span else np.full(len(values), 0.5)
    return low + share * (high - low)


def image_source(image: np.ndarray, kind: str = 'png') -> str:
    """The `src` of an `<img>` that contains the picture itself.

    Args:
      image: uint8 [height, width, 3].
      kind: 'png' or 'jpeg'.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, quality=85)
    return f'data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}'


def number(value: float | None, form: str = '{:.4f}') -> Figure:
    """A number as text; empty for None."""
    missing = value is None or math.isnan(value)
    return Figure('' if missing else form.format(value))
