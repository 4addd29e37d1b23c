"""The report of a data set: `report.json` for programs, `report.html` for people.

The page is one file and requests nothing from elsewhere.
"""

import collections
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from sicnn_jax import names
from sicnn_jax.data import records
from sicnn_jax.reports.html_page import details, histogram, image_source, page, table
from sicnn_jax.results_file import encode_json, write_whole

JSON, HTML = 'report.json', 'report.html'

# Faces on the contact sheet, and rejected files listed for each reason.
SHOWN_FACES = 60
_COLUMNS = 10
_SHOWN_FILES = 200


def reason_of(text: str) -> str:
    """The reason itself, without the details of one photograph."""
    return text.split(':')[0]


def count_reasons(skipped: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """The number of photographs for each reason, most frequent first."""
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
      report: as from `preparation.prepare`.
      heights: of the faces in their photographs, in pixels, [n].
      shown: encoded faces for the contact sheet.
    """
    write_whole(directory / JSON, encode_json(report, indent=1))
    write_whole(directory / HTML, names.encode(_page(report, heights, shown)))


def _page(report, heights, shown):
    sections = [
        ('Splits', _splits(report)),
        ('Settings', _settings(report)),
        *(
            (f'Images per identity: {split}', _images_per_identity(counts))
            for split, counts in report['images_per_identity'].items()
        ),
        (
            'Height of the faces in their photographs',
            histogram(heights, f'pixels that became {records.HEIGHT}', 'faces'),
        ),
        ('Not used', _skipped(report['skipped'])),
        *([('Passed over', _passed_over(report))] if report['passed_over'] else []),
        ('Some faces, at random', _contact_sheet(shown)),
    ]
    return page(f'Faces of {report["source"]}', sections)


def _splits(report):
    rows = [
        (name, split['identities'], split['images'])
        for name, split in report['splits'].items()
    ]
    note = f'<p>{report["images"]:,} images were found.</p>'
    return table(('split', 'identities', 'images'), rows) + note


def _settings(report):
    apart = {'splits', 'skipped', 'skipped_by_reason', 'images_per_identity'}
    apart |= {'passed_over', 'passed_over_examples'}
    rows = [
        (name, json.dumps(value, ensure_ascii=False))
        for name, value in report.items()
        if name not in apart
    ]
    return details('show', table(('field', 'value'), rows))


def _images_per_identity(counts):
    images = list(counts.values())
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return (
        histogram(images, 'images', 'identities')
        + f'<p>{len(counts):,} identities; median {np.median(images):g} images.</p>'
        + details('Most images', table(('identity', 'images'), most[:20]))
    )


def _skipped(skipped):
    if not skipped:
        return '<p>All were used.</p>'
    parts = []
    for reason, count in count_reasons(skipped).items():
        rows = [
            (entry['file'], entry['reason'].partition(': ')[2])
            for entry in skipped
            if reason_of(entry['reason']) == reason
        ][:_SHOWN_FILES]
        more = count - len(rows)
        rest = f'<p>and {more:,} more, all in {JSON}.</p>' if more else ''
        listed = table(('file', 'details'), rows) + rest
        parts.append(details(f'{count:,} {reason}', listed))
    return ''.join(parts)


def _passed_over(report):
    rows = [
        (f'{count:,} {reason}', ', '.join(report['passed_over_examples'][reason]))
        for reason, count in report['passed_over'].items()
    ]
    return table(('what', 'such as'), rows)


def _contact_sheet(shown):
    rows = -(-len(shown) // _COLUMNS)
    columns = min(len(shown), _COLUMNS)
    sheet = Image.new('RGB', (columns * records.WIDTH, rows * records.HEIGHT), 'white')
    for i, encoded in enumerate(shown):
        row, column = divmod(i, _COLUMNS)
        face = Image.fromarray(records.decode_image(encoded))
        sheet.paste(face, (column * records.WIDTH, row * records.HEIGHT))
    source = image_source(np.asarray(sheet), 'jpeg')
    return f'<img alt="{len(shown)} faces" src="{source}">'
