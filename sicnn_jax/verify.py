"""Verification (Sec. 4.2) on LFW, YouTube Faces, InsightFace's sets or any pairs.

What `python -m sicnn_jax.evaluate --pairs=…` measures: photographs or videos as they
are, and made small and large again by each method, by one or more networks.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import metrics, published, results_file, verification_sets
from sicnn_jax.data import align
from sicnn_jax.methods import load_methods
from sicnn_jax.metrics import PairIndices
from sicnn_jax.metrics.judge import Judge, check_originals, load_judge
from sicnn_jax.verification_sets import Album, Chunk
from sicnn_jax.workdir import recognition_directory

# How the features of a face and of its mirror image become one.
FLIPS = ('concat', 'mean', 'none')
# What a pair of videos is scored by: the mean features of their frames, or the mean
# score of all pairs of frames.
VIDEOS = ('feature', 'score')


@dataclasses.dataclass(frozen=True)
class Described:
    """Features float [m, d] and int [m], the side of pairs that each is of."""

    features: np.ndarray
    owners: np.ndarray


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    pairs: str,
    judge: str = '',
    onnx_settings: Mapping[str, Any] = {},
    **options: Any,
) -> dict[str, Any]:
    """Verifies pairs by CNNR of stage 1, if any, and a judge: prints, writes results.

    Args:
      config: of the run.
      workdir: of the run.
      pairs: a list of pairs, or a `.bin`.
      judge: of `load_judge`; by default that of the run, but the packaged one, which
        knows procedural faces, not for photographs.
      onnx_settings: of `load_judge`.
      **options: of `verify_methods`.

    Returns:
      What is written as `verification.json`.

    Raises:
      ValueError: as `verify_methods`, or a stage is not finished.
    """
    recognisers = []
    cnnr_directory = recognition_directory(config, workdir)
    if cnnr_directory is not None:
        cnnr = dataclasses.replace(load_judge(cnnr_directory), name='CNNR of stage 1')
        recognisers.append(cnnr)
    judge = judge or config.evaluation.judge
    if not recognisers and not judge and not options.get('data'):
        raise ValueError(
            f'The run {workdir} trained no recognition network: say which verifies, '
            'such as --judge=dlib.'
        )
    if judge or onnx_settings or options.get('data'):
        recognisers.append(load_judge(judge, onnx_settings))
    methods = load_methods(config, workdir)
    results = verify_methods(
        pairs, recognisers, methods, scale=methods.scale, **options
    )
    results |= results_file.environment()
    _log(format_verification(results))
    path = workdir / 'verification.json'
    results_file.write_results(results, path)
    _log(f'Written: {path}')
    return results


def describe(
    chunks: Iterable[Chunk],
    recognisers: Sequence[Judge],
    show: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    flip: str = 'concat',
    each: bool = False,
) -> dict[tuple[str, str], Described]:
    """What networks see in faces, as each method shows them.

    Args:
      chunks: sides int [n] and faces uint8 [n, 112, 96, 3], as `Album` yields them.
      recognisers: of different names.
      show: faces → faces by method.
      flip: one of `FLIPS`.
      each: keep the features of each face; else their mean over each side.

    Returns:
      Features by recogniser and method.
    """
    found: dict[tuple[str, str], list[Described]] = {}
    for sides, hr in chunks:
        for method, faces in show(hr).items():
            for judge in recognisers:
                described = Described(_features(judge, faces, flip), sides)
                parts = found.setdefault((judge.name, method), [])
                parts.append(described if each else _sum(described))
    return {key: _join(parts, each) for key, parts in found.items()}


def measure(described: Described, pairs: PairIndices, *, each: bool) -> dict[str, Any]:
    """Accuracy, AUC, EER and TAR@FAR of the reported folds.

    Args:
      described: as `describe` returns it.
      pairs: of its sides.
      each: as it was given to `describe`.

    Returns:
      A row of the results.

    Raises:
      ValueError: as `metrics.verify` and `metrics.auc`.
    """
    if each:
        result = metrics.verify_sets(
            described.features,
            described.owners,
            pairs.a,
            pairs.b,
            pairs.same,
            pairs.fold,
        )
    else:
        place = np.empty(described.owners.max() + 1, int)
        place[described.owners] = np.arange(len(described.owners))
        a, b = (described.features[place[side]] for side in (pairs.a, pairs.b))
        result = metrics.verify(a, b, pairs.same, pairs.fold)
    averaged = np.isin(np.unique(pairs.fold), pairs.fold[pairs.reported])
    accuracies = result.fold_accuracies[averaged]
    scores, same = result.scores[pairs.reported], pairs.same[pairs.reported]
    rates = metrics.true_accept_rates(scores, same)
    return {
        'accuracy': float(accuracies.mean()),
        'std': float(accuracies.std()),
        'fold_accuracies': accuracies.tolist(),
        'auc': metrics.auc(scores, same),
        'eer': metrics.equal_error_rate(scores, same),
        'tar_at_far': {
            f'{far:g}': float(rate)
            for far, rate in zip(metrics.FALSE_ACCEPT_RATES, rates, strict=True)
        },
    }


def verify_methods(
    path: str | os.PathLike,
    recognisers: Sequence[Judge],
    methods: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    scale: int,
    images: str | os.PathLike = '',
    landmarks: str | os.PathLike = '',
    data: str | os.PathLike = '',
    split: str = 'test',
    folds: Sequence[int] = (),
    report: Sequence[int] = (),
    flip: str = 'concat',
    video: str = 'feature',
    frames: int = 0,
) -> dict[str, Any]:
    """Verifies pairs of photographs as they are and by each method.

    The originals come first, so that a network that sees other images than it
    expects is noticed before the methods take their time.

    Args:
      path: of the list of pairs, or a `.bin`.
      recognisers: networks to verify by, of different names.
      methods: HR faces → faces by method, as `methods.Methods`.
      scale: of the methods; the published figures depend on it.
      images: directory that the paths of the list are relative to.
      landmarks: five points of each of these images (`align.read_landmarks`); without
        them the middle of each is taken.
      data, split: shards with the faces, instead of images.
      folds: numbered from 1; all by default.
      report: folds to average over; all by default. The others only give the
        threshold and the mean feature.
      flip: one of `FLIPS`.
      video: one of `VIDEOS`, for YouTube Faces.
      frames: of a video, so many at most, evenly spaced; 0 for all.

    Returns:
      The results; `rows` has one for each recogniser and method.

    Raises:
      ValueError: the list or landmarks are malformed, options do not fit, or the
        images that are there leave no pairs to verify.
    """
    if flip not in FLIPS or video not in VIDEOS:
        raise ValueError(
            f'flip is {flip!r} and video {video!r}; expected one of {FLIPS} and one of '
            f'{VIDEOS}.'
        )
    found = verification_sets.open_set(path, data, split)
    _check_images(path, found, images, landmarks)
    listed = metrics.choose_folds(found.pairs, folds, report, path)
    keys = sorted({key for pair in listed for key in (pair.key_a, pair.key_b)})
    located, missing = verification_sets.find_images(found, keys, images, frames)
    album = Album(located, align.read_landmarks(landmarks) if landmarks else None)
    each = found.kind == 'ytf' and video == 'score'
    see = functools.partial(describe, flip=flip, each=each)

    _log(f'{Path(path).name}: {len(listed)} pairs, {len(located)} images')
    originals = see(album, recognisers, _leave)
    missing |= album.missing
    seen = {
        keys[side]
        for described in originals.values()
        for side in np.unique(described.owners)
    }
    used = [pair for pair in listed if pair.key_a in seen and pair.key_b in seen]
    _log(_describe_missing(missing, len(used), len(listed)))
    if not used:
        raise ValueError(f'None of the pairs of {path} has both images.')
    places = {key: side for side, key in enumerate(keys)}
    pairs = metrics.index_pairs(used, places, report)

    def rows(described):
        return [
            {
                'recogniser': name,
                'method': method,
                **measure(features, pairs, each=each),
                'published': _published(scale, method, found.kind),
            }
            for (name, method), features in described.items()
        ]

    results = rows(originals)
    outside = [judge for judge in recognisers if judge.expects]
    _check_colours(recognisers, results, rows(see(album, outside, _exchange_colours)))
    results += rows(see(album, recognisers, _enlarge_by(methods)))
    # One recogniser after the other, HR and then the methods.
    order = [judge.name for judge in recognisers]
    results.sort(key=lambda row: order.index(row['recogniser']))
    same = pairs.same[pairs.reported]
    return {
        'rows': results,
        'set': found.kind,
        'pairs_file': os.fspath(path),
        'images': os.fspath(images or data or path),
        'landmarks': os.fspath(landmarks),
        'pairs_listed': len(listed),
        'pairs_used': len(used),
        'pairs_reported': len(same),
        'pairs_reported_different': int(np.sum(~same)),
        'folds': np.unique(pairs.fold).tolist(),
        'folds_reported': np.unique(pairs.fold[pairs.reported]).tolist(),
        'images_used': len(located) - len(album.missing),
        'missing': [{'image': key, 'why': why} for key, why in sorted(missing.items())],
        'flip': flip,
        'video': video if found.kind == 'ytf' else None,
        'frames': frames if found.kind == 'ytf' else None,
        'scale': scale,
    }


def _check_images(path, found, images, landmarks):
    """That images are given where the set has none, and landmarks only of them."""
    if bool(images) == (found.images is not None):
        raise ValueError(
            f'{path} has its images with it or in shards: leave out --images.'
            if images
            else f'{path} needs --images, the directory of its images.'
        )
    if landmarks and not images:
        raise ValueError('--landmarks are of --images; there are none.')


def _check_colours(recognisers, originals, exchanged):
    """Says how well each verifies the originals, and whether red and blue are right."""
    swapped = {row['recogniser']: row['accuracy'] for row in exchanged}
    for judge, row in zip(recognisers, originals, strict=True):
        _log(check_originals(judge, row['accuracy'], swapped.get(judge.name)))


def _published(scale, method, kind):
    """The paper's accuracy, or None."""
    return published.FIGURES.get(scale, {}).get(method, {}).get(kind)


def format_verification(results: Mapping[str, Any]) -> str:
    """The rows as text, with what they were measured on."""
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
            'published: of the paper, all ten folds, by a CNNR trained on faces of '
            'that method'
        )
    different = results['pairs_reported_different']
    small = [rate for rate in rates if float(rate) * different < 1]
    if small:
        lines.append(
            f'{different} different pairs: TAR at FAR {", ".join(small)} is that of no '
            f'false accept at all.'
        )
    return '\n'.join(lines)


def _log(line):
    print(line, flush=True)


def _features(judge, faces, flip):
    alone, both = judge.describe(faces)
    if flip == 'none':
        return alone
    if flip == 'mean' and judge.mirrored:
        return (both[:, : alone.shape[1]] + both[:, alone.shape[1] :]) / 2
    return both


def _sum(described):
    """Sums over the sides, and of a last column of ones: how many there were."""
    owners, position = np.unique(described.owners, return_inverse=True)
    sums = np.zeros((len(owners), described.features.shape[1] + 1))
    counted = np.pad(described.features, ((0, 0), (0, 1)), constant_values=1)
    np.add.at(sums, position, counted)
    return Described(sums, owners)


def _join(parts, each):
    joined = Described(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.owners for part in parts]),
    )
    if each:
        return joined
    # A video may lie in several chunks.
    owners, position = np.unique(joined.owners, return_inverse=True)
    sums = np.zeros((len(owners), joined.features.shape[1]))
    np.add.at(sums, position, joined.features)
    return Described(sums[:, :-1] / sums[:, -1:], owners)


def _leave(hr):
    return {'hr': hr}


def _exchange_colours(hr):
    return {'hr': hr[..., ::-1]}


def _enlarge_by(methods):
    def show(hr):
        faces = methods(hr)
        return {name: faces[name] for name in faces if name not in ('lr', 'hr')}

    return show


def _describe_missing(missing, used, listed):
    lines = [f'{used} of {listed} pairs are used.']
    if missing:
        shown = [f'  {key}: {why}' for key, why in sorted(missing.items())[:10]]
        more = len(missing) - len(shown)
        lines += [f'{len(missing)} images or videos are missing:', *shown]
        if more:
            lines.append(f'  and {more} more (all in verification.json)')
    return '\n'.join(lines)


def _line(cells):
    return f'{cells[0]:<18}' + ''.join(f'{cell:>10}' for cell in cells[1:])
