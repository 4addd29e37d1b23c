"""Compares bicubic, L_SR-only and SICNN on identities that no network ever saw.

    python -m sicnn_jax.evaluate --workdir=runs/di-demo

Prints a table and writes `results.json` and `samples.png` into the workdir.
"""

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import checkpoint, inference, metrics, models, pictures, train
from sicnn_jax.data import dataset, records
from sicnn_jax.metrics.judge import LEAST_ACCURACY, Judge, load_judge

# Stage whose CNNH is each learned method, in the order of the table.
METHODS = {'sr_only': 'sr_only', 'sicnn': 'domain_integrated'}
_COLUMNS = (
    'psnr',
    'ssim',
    'psnr_y',
    'ssim_y',
    'identity_similarity',
    'judge_similarity',
    'verification_accuracy',
)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Verification pairs among the faces.

    Attributes:
      a, b: int [n], indices of the two faces.
      same: bool [n].
      fold: int [n]. The threshold of each comes from all others.
      reported: bool [n], the pairs of the folds that are averaged over.
      shown: int [m], indices of the faces that quality and similarity are averaged
        over: those of the reported folds.
    """

    a: np.ndarray
    b: np.ndarray
    same: np.ndarray
    fold: np.ndarray
    reported: np.ndarray
    shown: np.ndarray


def run(config: ConfigDict, workdir: Path, **options: Any) -> dict[str, Any] | None:
    """Evaluates a finished run: prints the table, writes the results.

    Args:
      config: of the run.
      workdir: of the run.
      **options: of `load_test_faces`, and `judge`.

    Returns:
      What is written as `results.json`, or None where the run trains no CNNH to
      compare.

    Raises:
      CheckpointError: a stage is not finished.
    """
    if not set(METHODS.values()) & set(config.stages):
        return None
    judge = load_judge(options.pop('judge', None) or config.evaluation.judge)
    hr, pairs, about = load_test_faces(config, workdir, **options)
    directories = {
        method: train.stage_directory(config, stage, workdir)
        for method, stage in METHODS.items()
        if stage in config.stages
    }
    cnnr_directory = train.stage_directory(config, 'recognition', workdir)
    faces = super_resolve_all(hr, directories)
    rows, judged = compare(faces, pairs, cnnr_directory, judge)
    results = {
        'rows': rows,
        **about,
        'pairs': int(pairs.reported.sum()),
        'judge': judged,
        'ssim': 'scikit-image, Gaussian window 11×11, σ = 1.5, on uint8 RGB',
        'device': jax.devices()[0].device_kind,
        'machine': platform.processor() or platform.machine(),
        'versions': {'jax': jax.__version__, 'numpy': np.__version__},
    }
    print(format_table(results), flush=True)
    path = workdir / 'results.json'
    unfinished = path.with_suffix('.unfinished')
    unfinished.write_text(json.dumps(results, indent=2, ensure_ascii=False) + '\n')
    unfinished.replace(path)
    shown = np.linspace(0, len(hr) - 1, config.evaluation.pictures + 2).astype(int)
    pictures.save_grid(
        workdir / 'samples.png',
        {title: images[shown] for title, images in _titled(faces).items()},
    )
    print(f'Written: {path}, {workdir / "samples.png"}', flush=True)
    return results


def load_test_faces(
    config: ConfigDict,
    workdir: Path,
    *,
    data: str = '',
    split: str = 'test',
    pairs: str = '',
    folds: tuple[int, ...] = (),
    report: tuple[int, ...] = (),
) -> tuple[np.ndarray, Pairs, dict[str, Any]]:
    """Held-out faces and verification pairs of them.

    Args:
      config: of the run; its data are the default.
      workdir: of the run.
      data: a directory of shards instead.
      split: of the shards.
      pairs: LFW's pairs.txt, or a file like it; else pairs are drawn, in ten folds.
      folds: of `pairs`, numbered from 1 as LFW does; all by default. Only faces
        that are in their pairs are evaluated.
      report: folds to average over; all by default. The others only give the
        threshold.

    Returns:
      uint8 [n, 112, 96, 3], the pairs, and what the results say of both.
    """
    limit = config.evaluation.final_faces or None
    if not data and not pairs:
        faces = dataset.open_faces(config.data, workdir)
        hr, labels = faces.test_faces(limit)
        source = config.data.dir or config.data.source
        return hr, _draw_pairs(config, labels), _about(source, labels)
    directory = Path(data or config.data.dir or workdir / 'data')
    hr, labels = dataset.read_split(directory, split, limit)
    if not pairs:
        return hr, _draw_pairs(config, labels), _about(str(directory), labels)
    keys = records.read_keys(directory, split)
    listed = [
        pair
        for pair in metrics.read_lfw_pairs(pairs)
        if not folds or pair.fold + 1 in folds
    ]
    wanted = {key for pair in listed for key in (pair.key_a, pair.key_b)}
    missing = sorted(wanted - set(keys))
    if missing:
        raise records.DatasetError(
            f'{pairs} names {missing[0]} and {len(missing) - 1} more faces that are '
            f'not in the split {split!r} of {directory}. Choose folds that are.'
        )
    kept = [index for index, key in enumerate(keys) if key in wanted]
    place = {keys[index]: row for row, index in enumerate(kept)}
    a = np.array([place[pair.key_a] for pair in listed])
    b = np.array([place[pair.key_b] for pair in listed])
    same = np.array([pair.same for pair in listed])
    fold = np.array([pair.fold + 1 for pair in listed])
    unknown = sorted(set(report) - set(fold))
    if unknown:
        raise ValueError(
            f'--report names fold {unknown[0]}; expected some of '
            f'{np.unique(fold).tolist()}, which --folds leaves of {pairs}.'
        )
    reported = np.isin(fold, report or fold)
    shown = np.unique(np.stack([a, b])[:, reported])
    chosen = Pairs(a, b, same, fold, reported, shown)
    hr, labels = hr[kept], labels[kept]
    return hr, chosen, _about(str(directory), labels[shown])


def super_resolve_all(
    hr: np.ndarray, directories: Mapping[str, Path]
) -> dict[str, np.ndarray]:
    """Every method's faces: 'lr', 'bicubic', the learned ones, and 'hr', all uint8.

    Args:
      hr: uint8 [n, 112, 96, 3].
      directories: method → directory of the stage with its CNNH.

    Raises:
      CheckpointError: the networks know different degradations or scales.
    """
    loaded = {
        method: checkpoint.load_networks(directory, ['cnnh'])
        for method, directory in directories.items()
    }
    first, (_, record) = next(iter(loaded.items()))
    for method, (_, other) in loaded.items():
        checkpoint.check_record(
            other,
            {field: record[field] for field in ('convention', 'scale', 'degradation')},
            f'{directories[method]} (compared with {directories[first]})',
        )
    lr = inference.degrade_faces(hr, scale=record['scale'], kind=record['degradation'])
    faces = {'lr': lr, 'bicubic': inference.enlarge_faces(lr)}
    for method, (params, record) in loaded.items():
        cnnh = models.cnnh_from(record)
        faces[method] = inference.super_resolve(cnnh, params['cnnh'], lr)
    return faces | {'hr': hr}


def compare(
    faces: Mapping[str, np.ndarray], pairs: Pairs, cnnr_directory: Path, judge: Judge
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of the table, and what is to say of the judge.

    Identity similarity is the mean cosine between the features of a face and of its
    original: by the CNNR of stage 1 (the paper's rule, Sec. 4.2) and by the judge.

    Args:
      faces: as `super_resolve_all` gives them.
      pairs: to verify by the judge.
      cnnr_directory: of the recognition stage.
      judge: left out, with the reason, if it verifies fewer than 90% of HR pairs.
    """
    params, record = checkpoint.load_networks(cnnr_directory, ['cnnr'])
    cnnr = models.cnnr_from(record)

    def features(images):
        return inference.extract_features(cnnr, params['cnnr'], images)

    shown = pairs.shown
    hr = faces['hr'][shown]
    hr_features = features(hr)
    hr_seen, hr_verified = judge.describe(faces['hr'])
    hr_seen = hr_seen[shown]
    centre = hr_seen.mean(0) if judge.centred else 0.0
    accuracy = _verify(hr_verified, pairs)
    judged: dict[str, Any] = {'name': judge.name, 'hr_accuracy': accuracy}
    usable = accuracy >= LEAST_ACCURACY
    if not usable:
        judged['reason'] = (
            f'verifies {accuracy:.1%} of the HR pairs, fewer than '
            f'{LEAST_ACCURACY:.0%}: its columns are empty'
        )
    rows = [{'method': 'hr'} | dict.fromkeys(_COLUMNS)]
    if usable:
        rows[0]['verification_accuracy'] = accuracy
    for method in (name for name in faces if name not in ('lr', 'hr')):
        sr = faces[method][shown]
        row = {'method': method} | dict.fromkeys(_COLUMNS) | _quality(sr, hr)
        row['identity_similarity'] = metrics.identity_similarity(
            features(sr), hr_features
        )
        if usable:
            seen, verified = judge.describe(faces[method])
            row['judge_similarity'] = metrics.identity_similarity(
                seen[shown] - centre, hr_seen - centre
            )
            row['verification_accuracy'] = _verify(verified, pairs)
        rows.append(row)
    return rows, judged


def _quality(sr, hr):
    y, hr_y = metrics.luminance(sr), metrics.luminance(hr)
    return {
        'psnr': float(metrics.psnr(sr, hr).mean()),
        'ssim': float(metrics.ssim(sr, hr).mean()),
        'psnr_y': float(metrics.psnr(y, hr_y).mean()),
        'ssim_y': float(metrics.ssim(y, hr_y).mean()),
    }


def format_table(results: Mapping[str, Any]) -> str:
    """The rows as text, with what they were measured on."""
    lines = [
        f'{results["faces"]} faces of {results["identities"]} identities never seen '
        f'({results["data"]}), {results["pairs"]} pairs; judge: '
        f'{results["judge"]["name"]}'
    ]
    if 'reason' in results['judge']:
        lines.append(f'The judge {results["judge"]["reason"]}.')
    titles = ('method', 'PSNR', 'SSIM', 'identity sim.', 'judge sim.', 'verification')
    fields = (
        ('psnr', '{:.2f}'),
        ('ssim', '{:.4f}'),
        ('identity_similarity', '{:.4f}'),
        ('judge_similarity', '{:.4f}'),
        ('verification_accuracy', '{:.1%}'),
    )
    cells = [titles] + [
        (
            row['method'],
            *(
                '' if row[field] is None else form.format(row[field])
                for field, form in fields
            ),
        )
        for row in results['rows']
    ]
    lines += [
        f'{row[0]:<8}' + ''.join(f'{cell:>15}' for cell in row[1:]) for row in cells
    ]
    return '\n'.join(lines)


def _verify(features, pairs):
    result = metrics.verify(
        features[pairs.a], features[pairs.b], pairs.same, pairs.fold
    )
    averaged = np.isin(np.unique(pairs.fold), pairs.fold[pairs.reported])
    return float(result.fold_accuracies[averaged].mean())


def _draw_pairs(config, labels):
    num_pairs = config.evaluation.final_pairs
    a, b, same = metrics.make_pairs(labels, num_pairs=num_pairs, seed=0)
    # Pairs alternate between same and different, so every fold holds both.
    fold = np.arange(num_pairs) // 2 % 10 + 1
    reported = np.ones(num_pairs, bool)
    return Pairs(a, b, same, fold, reported, np.arange(len(labels)))


def _about(source, labels):
    return {
        'data': source,
        'faces': len(labels),
        'identities': len(np.unique(labels)),
    }


def _titled(faces):
    titles = {
        'lr': 'input',
        'bicubic': 'bicubic',
        'sr_only': 'L_SR only',
        'sicnn': 'SICNN',
        'hr': 'original',
    }
    shown = dict(faces) | {'lr': pictures.enlarge_pixels(faces['lr'])}
    return {titles[method]: images for method, images in shown.items()}


def _main():
    parser = argparse.ArgumentParser(
        prog='python -m sicnn_jax.evaluate', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--workdir', required=True, type=Path, help='of a finished run')
    parser.add_argument('--data', default='', help='shards; default: those of the run')
    parser.add_argument('--split', default='test', help='of the shards')
    parser.add_argument('--pairs', default='', help="LFW's pairs.txt, or one like it")
    folds = {'type': _numbers, 'default': (), 'metavar': 'N,N,…'}
    parser.add_argument('--folds', help='of --pairs, from 1; default: all', **folds)
    parser.add_argument('--report', help='folds to average; default: all', **folds)
    parser.add_argument(
        '--judge',
        default='',
        help="'dlib' (real faces), a finished recognition stage, or .safetensors; "
        'default: that of the run',
    )
    options = vars(parser.parse_args())
    workdir = options.pop('workdir')
    path = workdir / 'config.json'
    try:
        if not path.is_file():
            raise ValueError(f'{path} is missing: is {workdir} the workdir of a run?')
        run(ConfigDict(json.loads(path.read_text())), workdir, **options)
    except ValueError as error:
        sys.exit(f'Error: {error}')


def _numbers(text):
    return tuple(int(number) for number in text.split(','))


if __name__ == '__main__':
    _main()
