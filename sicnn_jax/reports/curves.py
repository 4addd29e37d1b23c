"""What a stage measured while it trained: read, and drawn as curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sicnn_jax.reports.html_page import details, left_out, line_chart

# Curves that every reader looks for; the others are a click away.
_MAIN = ('_loss', 'psnr', 'similarity', 'accuracy')
# What falls over orders of magnitude.
_FALLING = ('_loss', 'annealing', 'gradient_norm')


def read_metrics(stage: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` of a stage; none where it has not begun.

    A killed run may leave half a line, which is passed over.
    """
    path = stage / 'metrics.jsonl'
    found = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def draw_curves(lines: Sequence[Mapping[str, Any]]) -> str:
    """Curves of all that a stage measured, as HTML; see `read_metrics`."""
    if not lines:
        return left_out('there is no metrics.jsonl: it has not begun, or was given')
    fields = sorted({field for line in lines for field in line} - {'step'})
    charts = {
        field: [
            (step, value)
            for line in lines
            if (step := line['step']) is not None
            and (value := line.get(field)) is not None
        ]
        for field in fields
    }
    drawn = {
        field: line_chart(
            field.replace('_', ' '),
            points,
            logarithmic=field.endswith(_FALLING) and min(y for _, y in points) > 0,
        )
        for field, points in charts.items()
        if points
    }
    main = [chart for field, chart in drawn.items() if field.endswith(_MAIN)]
    others = [chart for field, chart in drawn.items() if not field.endswith(_MAIN)]
    return ''.join(main) + details('Norms, λ, speed', ''.join(others))
