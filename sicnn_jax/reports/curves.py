"""Reads the measurements of a stage's training, and draws them as curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sicnn_jax.reports.html_page import details, left_out, line_chart
from sicnn_jax.results_file import read_lines

# Curves that every reader looks for; the others are one click away.
_MAIN = ('_loss', 'psnr', 'similarity', 'accuracy')
# Values that fall by orders of magnitude.
_FALLING = ('_loss', 'annealing', 'gradient_norm')


def read_metrics(stage: Path) -> list[dict[str, Any]]:
    """The lines of a stage's `metrics.jsonl`; none if it has not begun."""
    return [line for _, line in read_lines(stage / 'metrics.jsonl')]


def draw_curves(lines: Sequence[Mapping[str, Any]]) -> str:
    """Curves of all measurements of a stage, as HTML; see `read_metrics`."""
    if not lines:
        return left_out('there is no metrics.jsonl: not begun, or trained elsewhere')
    main = others = ''
    for field in sorted({field for line in lines for field in line} - {'step'}):
        measured = [line for line in lines if line.get(field) is not None]
        points = [(line['step'], line[field]) for line in measured]
        if points:
            falls = field.endswith(_FALLING) and min(y for _, y in points) > 0
            chart = line_chart(field.replace('_', ' '), points, logarithmic=falls)
            if field.endswith(_MAIN):
                main += chart
            else:
                others += chart
    return main + details('Norms, λ, speed', others)
