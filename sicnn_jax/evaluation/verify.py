"""Verification (Sec. 4.2) on LFW, YouTube Faces, InsightFace's sets or any pairs.

What `python -m sicnn_jax.evaluate --pairs=…` measures: photographs or videos as they
are, and made small and large again by each method, by one or more networks.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import results_file
from sicnn_jax.evaluation import published, verification_sets
from sicnn_jax.evaluation.features import FLIPS, describe, measure
from sicnn_jax.evaluation.judge import Judge, check_originals, load_judge
from sicnn_jax.evaluation.methods import load_methods
from sicnn_jax.evaluation.pairs import choose_folds, index_pairs
from sicnn_jax.evaluation.verification_sets import Album
from sicnn_jax.evaluation.verification_text import describe_missing, format_verification
from sicnn_jax.workdir import recognition_directory

# What a pair of videos is scored by: the mean features of their frames, or the mean
# score of all pairs of frames.
VIDEOS = ('feature', 'score')


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    pairs: str,
    judge: str = '',
    out: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Verifies pairs by CNNR of stage 1, if any, and a judge: prints, writes results.

    Args:
      config, workdir: of the run.
      pairs: a list of pairs, or a `.bin`.
      judge: of `load_judge`; by default that of the run, but the packaged one, which
        knows procedural faces, not for photographs.
      out: where results are written; the workdir if None.
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
    if judge or options.get('data'):
        recognisers.append(load_judge(judge))
    methods = load_methods(config, workdir)
    out = out or workdir
    results = verify_methods(
        pairs,
        recognisers,
        methods,
        scale=methods.scale,
        missing_file=out / 'verification_missing.json',
        **options,
    )
    results |= results_file.environment()
    _log(format_verification(results))
    path = out / 'verification.json'
    results_file.write_results(results, path)
    _log(f'Written: {path}')
    return results


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
    missing_file: Path | None = None,
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
      missing_file: where to write at once which images are missing, and why; what is
        there of an earlier list goes.

    Returns:
      The results; `rows` has one for each recogniser and method.

    Raises:
      ValueError: the list or landmarks are malformed, options do not fit, or the
        images that are there leave no pairs to verify.
    """
    _check_choices(flip, video)
    found = verification_sets.open_set(path, data, split)
    _check_images(path, found, images, landmarks)
    listed = choose_folds(found.pairs, folds, report, path)
    keys = sorted({key for pair in listed for key in (pair.key_a, pair.key_b)})
    located, missing, passed_over = verification_sets.find_images(
        found, keys, images, frames
    )
    points = verification_sets.read_landmarks(found, landmarks) if landmarks else None
    album = Album(located, points)
    each = found.kind == 'ytf' and video == 'score'
    see = functools.partial(describe, album, flip=flip, each=each)

    _log(f'{Path(path).name}: {len(listed)} pairs, {len(located)} images{passed_over}')
    originals = see(recognisers, lambda hr: {'hr': hr})
    missing |= album.missing
    used = _with_both(path, listed, keys, originals, missing, missing_file)
    pairs = index_pairs(used, {key: side for side, key in enumerate(keys)}, report)
    rows = functools.partial(_rows, pairs, each=each, scale=scale, kind=found.kind)
    results = rows(originals)
    outside = [judge for judge in recognisers if judge.expects]
    exchanged = rows(see(outside, lambda hr: {'hr': hr[..., ::-1]}))
    _check_colours(recognisers, results, exchanged)
    results += rows(see(recognisers, functools.partial(_enlarge, methods)))
    order = [judge.name for judge in recognisers]
    return {
        'rows': sorted(results, key=lambda row: order.index(row['recogniser'])),
        'set': found.kind,
        'pairs_file': os.fspath(path),
        'images': os.fspath(images or data or path),
        'landmarks': os.fspath(landmarks),
        'pairs_listed': len(listed),
        'pairs_used': len(used),
        **_count_pairs(pairs),
        'images_used': len(located) - len(album.missing),
        'missing': _as_list(missing),
        **passed_over.report(),
        'flip': flip,
        'video': video if found.kind == 'ytf' else None,
        'frames': frames if found.kind == 'ytf' else None,
        'scale': scale,
    }


def _check_choices(flip, video):
    if flip not in FLIPS or video not in VIDEOS:
        raise ValueError(
            f'flip is {flip!r} and video {video!r}; expected one of {FLIPS} and one of '
            f'{VIDEOS}.'
        )


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


def _as_list(missing):
    return [{'image': key, 'why': why} for key, why in sorted(missing.items())]


def _with_both(path, listed, keys, described, missing, missing_file):
    """The pairs of which both images are there and were described; says how many."""
    seen = {
        keys[side]
        for features in described.values()
        for side in np.unique(features.owners)
    }
    used = [pair for pair in listed if pair.key_a in seen and pair.key_b in seen]
    if missing_file is not None:
        _write_missing(missing_file, path, missing)
    _log(describe_missing(missing, len(used), len(listed), missing_file))
    if not used:
        raise ValueError(f'None of the pairs of {path} has both images.')
    return used


def _write_missing(file, path, missing):
    """Before hours of work, or the error that nothing is left."""
    if missing:
        found = {'pairs_file': os.fspath(path), 'missing': _as_list(missing)}
        results_file.write_results(found, file)
    else:
        file.unlink(missing_ok=True)


def _rows(pairs, described, *, each, scale, kind):
    paper = published.FIGURES.get(scale, {})
    return [
        {
            'recogniser': name,
            'method': method,
            **measure(features, pairs, each=each),
            'published': paper.get(method, {}).get(kind),
        }
        for (name, method), features in described.items()
    ]


def _count_pairs(pairs):
    """Of the folds that are averaged over, how many, and which folds there are."""
    same = pairs.same[pairs.reported]
    return {
        'pairs_reported': len(same),
        'pairs_reported_different': int(np.sum(~same)),
        'folds': np.unique(pairs.fold).tolist(),
        'folds_reported': np.unique(pairs.fold[pairs.reported]).tolist(),
    }


def _check_colours(recognisers, originals, exchanged):
    """Says how well each verifies the originals, and whether red and blue are right."""
    swapped = {row['recogniser']: row['accuracy'] for row in exchanged}
    for judge, row in zip(recognisers, originals, strict=True):
        _log(check_originals(judge, row['accuracy'], swapped.get(judge.name)))


def _log(line):
    print(line, flush=True)


def _enlarge(methods, hr):
    faces = methods(hr)
    return {name: faces[name] for name in faces if name not in ('lr', 'hr')}
