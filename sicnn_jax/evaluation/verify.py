"""Verification (Sec. 4.2) on LFW, YouTube Faces, InsightFace's sets or any pairs.

`python -m sicnn_jax.evaluate --pairs=…` runs it, with one or more networks: on
photographs or videos as they are, and made small and enlarged again by each method.
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

# Ways to score a pair of videos: by the mean features of their frames, or by the mean
# score of all pairs of frames.
VIDEOS = ('feature', 'score')

_log = functools.partial(print, flush=True)


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    pairs: str,
    judge: str = '',
    out: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Verifies pairs by the CNNR of stage 1, if any, and a judge; writes the results.

    Args:
      config, workdir: of the run.
      pairs: a list of pairs, or a `.bin`.
      judge: for `load_judge`; by default the run's judge, except that the packaged one,
        which knows procedural faces, is not used for photographs.
      out: directory for the results; None for the workdir.
      **options: of `verify_methods`.

    Returns:
      The content of `verification.json`.

    Raises:
      ValueError: as `verify_methods`, or a stage is not finished.
    """
    recognisers = []
    cnnr_directory = recognition_directory(config, workdir)
    if cnnr_directory is not None:
        cnnr = dataclasses.replace(load_judge(cnnr_directory), name='CNNR of stage 1')
        recognisers.append(cnnr)
    judge = judge or config.evaluation.judge
    if judge or options.get('data'):
        recognisers.append(load_judge(judge))
    elif not recognisers:
        raise ValueError(
            f'The run {workdir} trained no recognition network: name one that '
            'verifies, such as --judge=dlib.'
        )
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

    The originals come first, so that a network with the wrong input is noticed before
    the methods take their time.

    Args:
      path: of the list of pairs, or a `.bin`.
      recognisers: networks to verify by, with different names.
      methods: HR faces → faces by method, as `methods.Methods`.
      scale: of the methods; the published figures depend on it.
      images: directory that the paths of the list are relative to.
      landmarks: five points of each of these images (`align.read_landmarks`); without
        them, the middle of each image is taken.
      data, split: shards with the faces, instead of images.
      folds: numbered from 1; all by default.
      report: folds to average over; all by default. The others only give the
        threshold and the mean feature.
      flip: one of `FLIPS`.
      video: one of `VIDEOS`, for YouTube Faces.
      frames: the most frames per video, evenly spaced; 0 for all.
      missing_file: gets the list of missing images, with reasons, before the methods
        run; an earlier list is replaced or deleted.

    Returns:
      The results; `rows` has one for each recogniser and method.

    Raises:
      ValueError: the list or landmarks are malformed, options do not fit, or no pair
        has both images.
    """
    _check_choices(flip, video)
    found = verification_sets.open_set(path, data, split)
    points = _read_landmarks(path, found, images, landmarks)
    listed = choose_folds(found.pairs, folds, report, path)
    keys = sorted({key for pair in listed for key in (pair.key_a, pair.key_b)})
    located, missing, passed_over = verification_sets.find_images(
        found, keys, images, frames
    )
    album = Album(located, points)
    each = found.kind == 'ytf' and video == 'score'
    see = functools.partial(describe, album, flip=flip, each=each)

    _log(f'{Path(path).name}: {len(listed)} pairs, {len(located)} images{passed_over}')
    originals = see(recognisers, lambda hr: {'hr': hr})
    missing |= album.missing
    used = _with_both(path, listed, keys, originals, missing, missing_file)
    pairs = index_pairs(used, {key: side for side, key in enumerate(keys)}, report)
    rows = functools.partial(_rows, pairs, each=each, scale=scale, kind=found.kind)
    return {
        'rows': _all_rows(rows, see, recognisers, methods, originals),
        'set': found.kind,
        'pairs_file': os.fspath(path),
        'images': os.fspath(images or data or path),
        'landmarks': os.fspath(landmarks),
        **_count_pairs(listed, used, pairs),
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


def _all_rows(rows, see, recognisers, methods, originals):
    """The rows of the originals and of each method, sorted by recogniser."""
    results = rows(originals)
    outside = [judge for judge in recognisers if judge.expects]
    exchanged = rows(see(outside, lambda hr: {'hr': hr[..., ::-1]}))
    _check_colours(recognisers, results, exchanged)
    results += rows(see(recognisers, functools.partial(_enlarge, methods)))
    order = [judge.name for judge in recognisers]
    return sorted(results, key=lambda row: order.index(row['recogniser']))


def _read_landmarks(path, found, images, landmarks):
    """The landmarks of the images, if given; checks that images are given if needed."""
    if bool(images) == (found.images is not None):
        raise ValueError(
            f'{path} brings its images, or they are in shards: leave out --images.'
            if images
            else f'{path} needs --images, the directory of its images.'
        )
    if landmarks and not images:
        raise ValueError('--landmarks need --images: give both, or leave both out.')
    return verification_sets.read_landmarks(found, landmarks) if landmarks else None


def _as_list(missing):
    return [{'image': key, 'why': why} for key, why in sorted(missing.items())]


def _with_both(path, listed, keys, described, missing, missing_file):
    """The pairs with features of both images; prints how many there are."""
    seen = {
        keys[side]
        for features in described.values()
        for side in np.unique(features.owners)
    }
    used = [pair for pair in listed if pair.key_a in seen and pair.key_b in seen]
    # The file is written before hours of work, or the error that no pair is left.
    if missing_file is not None and missing:
        found = {'pairs_file': os.fspath(path), 'missing': _as_list(missing)}
        results_file.write_results(found, missing_file)
    elif missing_file is not None:
        missing_file.unlink(missing_ok=True)
    _log(describe_missing(missing, len(used), len(listed), missing_file))
    if not used:
        raise ValueError(f'None of the pairs of {path} has both images.')
    return used


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


def _count_pairs(listed, used, pairs):
    """Numbers of pairs, in all and in the folds that are averaged over; these folds."""
    same = pairs.same[pairs.reported]
    return {
        'pairs_listed': len(listed),
        'pairs_used': len(used),
        'pairs_reported': len(same),
        'pairs_reported_different': int(np.sum(~same)),
        'folds': np.unique(pairs.fold).tolist(),
        'folds_reported': np.unique(pairs.fold[pairs.reported]).tolist(),
    }


def _check_colours(recognisers, originals, exchanged):
    """Prints how well each verifies the originals, and warns of exchanged colours."""
    swapped = {row['recogniser']: row['accuracy'] for row in exchanged}
    for judge, row in zip(recognisers, originals, strict=True):
        _log(check_originals(judge, row['accuracy'], swapped.get(judge.name)))


def _enlarge(methods, hr):
    faces = methods(hr)
    return {name: faces[name] for name in faces if name not in ('lr', 'hr')}
