"""The faces made from a source, and the report of the data set."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sicnn_jax.data import records
from sicnn_jax.data.preparing import selection, sources, spool
from sicnn_jax.data.preparing.settings import Settings
from sicnn_jax.reports import dataset_page


@dataclasses.dataclass(frozen=True)
class Made:
    """Faces in the spool, which of them are kept, and why the others are not."""

    unfinished: spool.Spool
    faces: np.ndarray
    candidates: selection.Faces
    selected: selection.Selection
    skipped: list[dict[str, str]]


def write_report(
    out: pathlib.Path,
    source: str | os.PathLike,
    opened: sources.Source,
    made: Made,
    info: records.DatasetInfo,
    settings: Settings,
) -> dict[str, Any]:
    """Writes the report into the data set's directory, and returns it."""
    splits, names = made.selected.filled(), made.candidates.names
    kept = np.concatenate(list(splits.values()))
    heights = made.faces['height'][kept]
    result = {
        'source': where(source),
        'images': len(opened.keys),
        **opened.passed_over.report(),
        **_describe_settings(settings),
        'identity': opened.identity_feature,
        'splits': {
            split: {'identities': found.num_identities, 'images': found.num_examples}
            for split, found in info.splits.items()
        },
        'images_per_identity': {
            split: dict(sorted(collections.Counter(names[kept]).items()))
            for split, kept in splits.items()
        },
        'face_height': dataset_page.summarise_heights(heights),
        'skipped_by_reason': dataset_page.count_reasons(made.skipped),
        'skipped': made.skipped,
    }
    chosen = np.random.default_rng(settings.seed).permutation(kept)
    chosen = made.faces[chosen[: dataset_page.SHOWN_FACES]]
    shown = [made.unfinished.read(face) for face in chosen]
    dataset_page.write_report(out, result, heights=heights, shown=shown)
    return result


def _describe_settings(settings):
    """The settings for the report, without test people: each split lists its own."""
    landmarks, checkpoint = settings.landmarks, settings.checkpoint
    described = dataclasses.asdict(settings) | {
        'landmarks': landmarks and os.fspath(pathlib.Path(landmarks).resolve()),
        'checkpoint': checkpoint and os.fspath(checkpoint),
        'exclude': [os.fspath(path) for path in settings.exclude],
    }
    del described['test_identities'], described['test_list']
    return described


def nothing_left(
    source: str | os.PathLike, skipped: Sequence[Mapping[str, str]]
) -> str:
    """The error if no face remains."""
    reasons = ', '.join(
        f'{n} {reason}' for reason, n in dataset_page.count_reasons(skipped).items()
    )
    return (
        f'None of the images of {source} can be used: {reasons}. The first, '
        f'{skipped[0]["file"]}: {skipped[0]["reason"]}.'
    )


def where(source: str | os.PathLike) -> str:
    """The name of a source in the report: its absolute path, or its TFDS name."""
    text = os.fspath(source)
    return text if text.startswith('tfds:') else os.fspath(pathlib.Path(text).resolve())
