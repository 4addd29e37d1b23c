"""The results of a verification as text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sicnn_jax import metrics


def format_verification(results: Mapping[str, Any]) -> str:
    """The rows as text, with a line on the data."""
    rates = [f'{rate:g}' for rate in metrics.FALSE_ACCEPT_RATES]
    published = any(row['published'] is not None for row in results['rows'])
    titles = ['method', 'accuracy', 'AUC', 'EER', *rates]
    lines = [
        f'{results["pairs_reported"]} pairs in {len(results["folds_reported"])} folds '
        f'of {Path(results["pairs_file"]).name} ({results["pairs_used"]} of '
        f'{results["pairs_listed"]} pairs used), {results["images_used"]} images; '
        f'flip: {results["flip"]}; last columns: TAR at FAR'
    ]
    if published:
        titles.append('published')
    recogniser = None
    for row in results['rows']:
        if row['recogniser'] != recogniser:
            recogniser = row['recogniser']
            lines += [f'by {recogniser}', _line(titles)]
        cells = [
            row['method'],
            f'{row["accuracy"]:.2%}',
            f'{row["auc"]:.4f}',
            f'{row["eer"]:.2%}',
            *(f'{row["tar_at_far"][rate]:.2%}' for rate in rates),
        ]
        if row['published'] is not None:
            cells.append(f'{row["published"]:.2%}')
        lines.append(_line(cells))
    if published:
        lines.append(
            'published: in the paper, over all ten folds, by a CNNR trained on faces '
            'of that method'
        )
    different = results['pairs_reported_different']
    small = [rate for rate in rates if float(rate) * different < 1]
    if small:
        lines.append(
            f'{different} different pairs: TAR at FAR {", ".join(small)} allows no '
            f'false accept at all.'
        )
    return '\n'.join(lines)


def _line(cells):
    return f'{cells[0]:<18}' + ''.join(f'{cell:>10}' for cell in cells[1:])


def describe_missing(
    missing: Mapping[str, str], used: int, listed: int, file: Path | None = None
) -> str:
    """Says how many pairs are used, and names the first missing images.

    Args:
      missing: why an image has no face, by key.
      used, listed: numbers of pairs.
      file: that lists all missing images.
    """
    lines = [f'{used} of {listed} pairs are used.']
    if missing:
        shown = [f'  {key}: {why}' for key, why in sorted(missing.items())[:10]]
        more = len(missing) - len(shown)
        lines += [f'{len(missing)} images or videos are missing:', *shown]
        if more:
            lines.append(f'  and {more} more' + (f' (all in {file})' if file else ''))
    return '\n'.join(lines)
