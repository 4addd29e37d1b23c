"""Compares bicubic and the methods of a run on identities that no network saw."""

import functools
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import checkpoint, inference, metrics, models, pictures, results_file
from sicnn_jax.columns import MEASURES, text_table
from sicnn_jax.evaluation import held_out
from sicnn_jax.evaluation.judge import (
    LEAST_ACCURACY,
    Judge,
    check_originals,
    load_judge,
)
from sicnn_jax.evaluation.methods import TITLES, compared_stages, load_methods
from sicnn_jax.models.convolutions import use_winograd
from sicnn_jax.workdir import recognition_directory, stage_directory

__all__ = ['EACH_FILE', 'compare', 'format_table', 'run', 'similarity_by']

# The values that the rows average, as METHOD/COLUMN, next to results.json.
EACH_FILE = 'each.npz'

_COLUMNS = (
    *('psnr', 'ssim', 'psnr_y', 'ssim_y'),
    *('identity_similarity', 'judge_similarity', 'verification_accuracy'),
)


def run(
    config: ConfigDict, workdir: Path, *, out: Path | None = None, **options: Any
) -> dict[str, Any] | None:
    """Evaluates a finished run: prints the table, writes the results.

    Args:
      config, workdir: of the run.
      out: directory for the results; None for the workdir.
      **options: of `load_test_faces`, and `judge` for `load_judge`.

    Returns:
      The content of `results.json`, or None if the run trains no CNNH to compare.

    Raises:
      CheckpointError: a stage is not finished.
    """
    if not compared_stages(config):
        return None
    judge = load_judge(options.pop('judge', None) or config.evaluation.judge)
    hr, pairs, about = held_out.load_test_faces(config, workdir, **options)
    cnnr_directory = recognition_directory(config, workdir)
    stages = [
        stage_directory(config, stage, workdir)
        for stage in compared_stages(config).values()
    ]
    with use_winograd(config.winograd):
        faces = load_methods(config, workdir)(hr)
        rows, each, judged = compare(faces, pairs, cnnr_directory, judge)
    results = {
        'rows': rows,
        **about,
        'never_seen': held_out.are_new(about, stages),
        'pairs': int(pairs.reported.sum()),
        'judge': judged,
        'ssim': 'Wang et al. 2004: Gaussian window 11×11, σ = 1.5, on uint8 RGB',
        **results_file.environment(),
    }
    print(format_table(results), flush=True)
    out = out or workdir
    path = out / 'results.json'
    _write_each(each, out / EACH_FILE)
    results_file.write_results(results, path)
    shown = np.linspace(0, len(hr) - 1, config.evaluation.pictures + 2).astype(int)
    seen = faces | {'lr': pictures.enlarge_pixels(faces['lr'])}
    pictures.save_grid(
        out / 'samples.png',
        {TITLES.get(name, name): images[shown] for name, images in seen.items()},
    )
    print(f'Written: {path}, {out / "samples.png"}', flush=True)
    return results


def compare(
    faces: Mapping[str, np.ndarray],
    pairs: held_out.Pairs,
    cnnr_directory: Path | None,
    judge: Judge,
) -> tuple[list[dict[str, Any]], dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Rows of the table, the values that they average, and notes on the judge.

    Identity similarity is the mean cosine between the features of a face and of its
    original: by the CNNR of stage 1 (the paper's rule, Sec. 4.2) and by the judge.

    Args:
      faces: from `methods.Methods`.
      pairs: to verify by the judge.
      cnnr_directory: of the recognition stage; None if the run has none, which leaves
        the column of identity similarity empty.
      judge: left out, with the reason, if it verifies fewer than 90% of HR pairs.

    Returns:
      The rows; method → column → the value of each face shown, or whether each reported
      pair is decided correctly ('verification_accuracy'); the judge.
    """
    shown = pairs.shown
    hr = faces['hr'][shown]
    hr_y = metrics.luminance(hr)
    similarity = similarity_by(cnnr_directory, hr) if cnnr_directory else None
    hr_seen, hr_verified = judge.describe(faces['hr'])
    hr_seen = hr_seen[shown]
    centre = hr_seen.mean(0) if judge.centred else 0.0
    accuracy, right = pairs.verify(hr_verified)
    if judge.expects:
        _, swapped = judge.describe(faces['hr'][..., ::-1])
        print(check_originals(judge, accuracy, pairs.verify(swapped)[0]), flush=True)
    judged: dict[str, Any] = {'name': judge.name, 'hr_accuracy': accuracy}
    usable = accuracy >= LEAST_ACCURACY
    if not usable:
        judged['reason'] = (
            f'verifies {accuracy:.1%} of the HR pairs, fewer than '
            f'{LEAST_ACCURACY:.0%}: its columns are empty'
        )
    accuracies = {'hr': accuracy} if usable else {}
    each = {'hr': {'verification_accuracy': right} if usable else {}}
    for method in (name for name in faces if name not in ('lr', 'hr')):
        sr = faces[method][shown]
        y = metrics.luminance(sr)
        each[method] = values = {
            'psnr': metrics.psnr(sr, hr),
            'ssim': metrics.ssim(sr, hr),
            'psnr_y': metrics.psnr(y, hr_y),
            'ssim_y': metrics.ssim(y, hr_y),
        }
        if similarity:
            values['identity_similarity'] = similarity(sr)
        if usable:
            seen, verified = judge.describe(faces[method])
            seen = seen[shown] - centre
            values['judge_similarity'] = metrics.pair_scores(seen, hr_seen - centre)
            accuracies[method], right = pairs.verify(verified)
            values['verification_accuracy'] = right
    rows = [
        {'method': method}
        | dict.fromkeys(_COLUMNS)
        | {column: float(np.mean(value)) for column, value in values.items()}
        # The mean over the folds, not over the pairs.
        | {'verification_accuracy': accuracies.get(method)}
        for method, values in each.items()
    ]
    return rows, each, judged


def similarity_by(
    cnnr_directory: Path, hr: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from faces to their similarity to these originals, by a CNNR."""
    params, record = checkpoint.load_networks(cnnr_directory, ['cnnr'])
    features = functools.partial(
        inference.extract_features, models.cnnr_from(record), params['cnnr']
    )
    hr_features = features(hr)
    return lambda sr: metrics.pair_scores(features(sr), hr_features)


def format_table(results: Mapping[str, Any]) -> str:
    """The rows as text, with a line on the data."""
    people = held_out.describe_people(results)
    lines = [
        f'{results["faces"]} faces of {people} ({results["data"]}), '
        f'{results["pairs"]} pairs; judge: {results["judge"]["name"]}'
    ]
    if 'reason' in results['judge']:
        lines.append(f'The judge {results["judge"]["reason"]}.')
    lines += text_table(MEASURES, {row['method']: row for row in results['rows']})
    return '\n'.join(lines)


def _write_each(each, path):
    arrays = {
        f'{method}/{column}': value.astype('bool' if value.dtype == bool else 'float32')
        for method, columns in each.items()
        for column, value in columns.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    results_file.write_whole(path, buffer.getvalue())
