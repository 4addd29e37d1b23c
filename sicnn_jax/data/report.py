"""What became of a source: `report.json` for programs, `report.html` to look at.

The page is one file and asks for nothing from elsewhere.
"""

import base64
import collections
import html
import io
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from sicnn_jax.data import records

JSON, HTML = 'report.json', 'report.html'

# Faces on the contact sheet, and rejected files of one reason that the page lists.
SHOWN_FACES = 60
_COLUMNS = 10
_SHOWN_FILES = 200

_BARS = 30
_WIDTH, _HEIGHT = 640, 160

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto;
  padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { padding: .15em .8em; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
tr:nth-child(even) { background: #f4f4f4; } summary { cursor: pointer; }
svg { background: #f8f8f8; } rect { fill: #4a76a8; } img { max-width: 100%; }
code { overflow-wrap: anywhere; }
"""


def reason_of(text: str) -> str:
    """The reason itself, without what is said of one photograph."""
    return text.split(':')[0]


def count_reasons(skipped: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """How many photographs there are for each reason, most frequent first."""
    counts = collections.Counter(reason_of(entry['reason']) for entry in skipped)
    return dict(counts.most_common())


def summarise_heights(heights: np.ndarray) -> dict[str, float]:
    """Quantiles of the heights of faces in their photographs, in pixels."""
    names = ('minimum', 'quarter', 'median', 'three_quarters', 'maximum')
    values = np.quantile(heights.astype(np.float64), np.linspace(0, 1, len(names)))
    return {
        name: round(float(value), 1) for name, value in zip(names, values, strict=True)
    }


def write_report(
    directory: pathlib.Path,
    report: Mapping[str, Any],
    *,
    heights: np.ndarray,
    shown: Sequence[bytes],
) -> None:
    """Writes `report.json` and `report.html`.

    Args:
      directory: of the data set.
      report: as `prepare.prepare` returns it.
      heights: of the faces in their photographs, in pixels, [n].
      shown: encoded faces for the contact sheet.
    """
    text = json.dumps(report, indent=1, ensure_ascii=False)
    for name, content in (
        (JSON, text),
        (HTML, _page(report, heights, shown)),
    ):
        staged = directory / f'.{name}'
        staged.write_text(content, encoding='utf-8')
        staged.replace(directory / name)


def _page(report, heights, shown):
    title = f'Faces of {html.escape(report["source"])}'
    sections = [
        ('Splits', _splits(report)),
        ('Settings', _settings(report)),
        *(
            (
                f'Images of an identity: {html.escape(split)}',
                _histogram(list(counts.values()), 'images', 'identities')
                + _extremes(counts),
            )
            for split, counts in report['images_per_identity'].items()
        ),
        (
            'Height of the faces in their photographs',
            _histogram(heights, 'pixels that became 112', 'faces'),
        ),
        ('Not used', _skipped(report['skipped'])),
        ('Some faces, at random', _contact_sheet(shown)),
    ]
    body = ''.join(f'<h2>{name}</h2>\n{content}\n' for name, content in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<title>{title}</title><style>{_STYLE}</style></head>\n'
        f'<body><h1>{title}</h1>\n{body}</body></html>\n'
    )


def _splits(report):
    rows = [
        (name, split['identities'], split['images'])
        for name, split in report['splits'].items()
    ]
    note = f'<p>{report["images"]:,} images were found.'
    if report['passed_over']:
        note += f' {report["passed_over"]:,} other files were passed over.'
    return _table(('split', 'identities', 'images'), rows) + note + '</p>'


def _settings(report):
    apart = {'splits', 'skipped', 'skipped_by_reason', 'images_per_identity'}
    rows = [
        (name, str(json.dumps(value, ensure_ascii=False)))
        for name, value in report.items()
        if name not in apart
    ]
    return (
        f'<details><summary>show</summary>{_table(("field", "value"), rows)}</details>'
    )


def _extremes(counts):
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return (
        f'<p>{len(counts):,} identities; median {np.median(list(counts.values())):g} '
        'images.</p><details><summary>Most images</summary>'
        + _table(('identity', 'images'), most[:20])
        + '</details>'
    )


def _skipped(skipped):
    if not skipped:
        return '<p>All were used.</p>'
    by_reason = collections.defaultdict(list)
    for entry in skipped:
        by_reason[reason_of(entry['reason'])].append(entry)
    parts = []
    for reason, count in count_reasons(skipped).items():
        rows = [
            (entry['file'], entry['reason'].partition(': ')[2])
            for entry in by_reason[reason][:_SHOWN_FILES]
        ]
        more = count - len(rows)
        parts.append(
            f'<details><summary>{count:,} {html.escape(reason)}</summary>'
            + _table(('file', 'details'), rows)
            + (f'<p>and {more:,} more, all in {JSON}.</p>' if more else '')
            + '</details>'
        )
    return ''.join(parts)


def _table(columns, rows):
    head = ''.join(f'<th>{html.escape(column)}</th>' for column in columns)
    body = ''.join('<tr>' + ''.join(map(_cell, row)) + '</tr>\n' for row in rows)
    return f'<table><tr>{head}</tr>\n{body}</table>'


def _cell(value):
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f'<td><code>{html.escape(value)}</code></td>'


def _histogram(values, unit, of):
    """Bars as SVG, the highest as high as the picture."""
    counts, edges = np.histogram(values, bins=_BARS)
    if np.ptp(values) < _BARS and np.all(np.equal(np.mod(values, 1), 0)):
        # Few whole numbers: a bar for each.
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
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{bars}</svg>'
        f'<p>{np.min(values):g} to {np.max(values):g} {unit}; up to '
        f'{counts.max():,} {of} a bar.</p>'
    )


def _contact_sheet(shown):
    rows = -(-len(shown) // _COLUMNS)
    columns = min(len(shown), _COLUMNS)
    sheet = Image.new('RGB', (columns * records.WIDTH, rows * records.HEIGHT), 'white')
    for i, encoded in enumerate(shown):
        row, column = divmod(i, _COLUMNS)
        face = Image.fromarray(records.decode_image(encoded))
        sheet.paste(face, (column * records.WIDTH, row * records.HEIGHT))
    buffer = io.BytesIO()
    sheet.save(buffer, 'jpeg', quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{len(shown)} faces" src="data:image/jpeg;base64,{data}">'
