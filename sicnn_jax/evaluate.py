"""Compares bicubic and the methods of a run on identities that no network ever saw.

    python -m sicnn_jax.evaluate --workdir=runs/di-demo

Prints a table and writes `results.json`, `each.npz` (the values that it averages) and
`samples.png` into the workdir. With pairs of photographs it verifies them instead, by
more measures (`verification.json`):

    python -m sicnn_jax.evaluate --workdir=runs/di --pairs=pairs.txt --images=lfw \\
        --landmarks=landmarks.txt

Without --workdir it evaluates the network that ships, on shards or pairs of yours:

    python -m sicnn_jax.evaluate --data=data/faces --judge=judge.onnx --out=runs/shipped

docs/evaluation.md has the sets and options.
"""

import argparse
import dataclasses
import functools
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import (
    checkpoint,
    command,
    inference,
    metrics,
    models,
    pictures,
    results_file,
    verify,
    weights,
)
from sicnn_jax.data import dataset, records
from sicnn_jax.methods import TITLES, compared_stages, load_methods
from sicnn_jax.metrics import PairIndices
from sicnn_jax.metrics.judge import LEAST_ACCURACY, Judge, check_originals, load_judge
from sicnn_jax.models.convolution import use_winograd
from sicnn_jax.workdir import (
    CONFIG,
    read_config,
    recognition_directory,
    shipped_config,
)

# What the rows are means of, as METHOD/COLUMN, beside results.json.
EACH_FILE = 'each.npz'

_COLUMNS = (
    'psnr',
    'ssim',
    'psnr_y',
    'ssim_y',
    'identity_similarity',
    'judge_similarity',
    'verification_accuracy',
)


class NobodyHeldOutError(records.DatasetError):
    """A run was trained on everybody that its data have."""


@dataclasses.dataclass(frozen=True)
class Pairs(PairIndices):
    """Verification pairs among the faces.

    Attributes:
      shown: int [m], indices of the faces that quality and similarity are averaged
        over: those of the reported folds.
    """

    shown: np.ndarray

    def verify(self, features: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean accuracy of the reported folds, and which of their pairs are right.

        Args:
          features: float [n, d] of all faces.
        """
        result = metrics.verify(
            features[self.a], features[self.b], self.same, self.fold
        )
        averaged = np.isin(np.unique(self.fold), self.fold[self.reported])
        accuracy = float(result.fold_accuracies[averaged].mean())
        return accuracy, result.right[self.reported]


def run(config: ConfigDict, workdir: Path, **options: Any) -> dict[str, Any] | None:
    """Evaluates a finished run: prints the table, writes the results.

    Args:
      config: of the run.
      workdir: of the run.
      **options: of `load_test_faces`, and `judge` and `onnx_settings` of `load_judge`.

    Returns:
      What is written as `results.json`, or None where the run trains no CNNH to
      compare.

    Raises:
      CheckpointError: a stage is not finished.
    """
    if not compared_stages(config):
        return None
    judge = load_judge(
        options.pop('judge', None) or config.evaluation.judge,
        options.pop('onnx_settings', {}),
    )
    hr, pairs, about = load_test_faces(config, workdir, **options)
    cnnr_directory = recognition_directory(config, workdir)
    with use_winograd(config.winograd):
        faces = load_methods(config, workdir)(hr)
        rows, each, judged = compare(faces, pairs, cnnr_directory, judge)
    results = {
        'rows': rows,
        **about,
        'pairs': int(pairs.reported.sum()),
        'judge': judged,
        'ssim': 'scikit-image, Gaussian window 11×11, σ = 1.5, on uint8 RGB',
        **results_file.environment(),
    }
    print(format_table(results), flush=True)
    path = workdir / 'results.json'
    _write_each(each, workdir / EACH_FILE)
    results_file.write_results(results, path)
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
      pairs: LFW's pairs.txt, a file like it or CSV, of keys of the shards; else pairs
        are drawn, in ten folds.
      folds: of `pairs`, numbered from 1 as LFW does; all by default. Only faces
        that are in their pairs are evaluated.
      report: folds to average over; all by default. The others only give the
        threshold.

    Returns:
      uint8 [n, 112, 96, 3], the pairs, and what the results say of both.

    Raises:
      NobodyHeldOutError: the data of the run have no split `test`.
      DatasetError: the faces cannot be read, or those of the pairs are not there.
    """
    limit = config.evaluation.final_faces or None
    if not data and not pairs:
        faces = dataset.open_faces(config.data, workdir)
        hr, labels = faces.test_faces(limit)
        source = config.data.dir or config.data.source
        if not len(hr):
            raise NobodyHeldOutError(
                f"{source} has no held-out people (split 'test'): give others by "
                '--data, or by --pairs with --images.'
            )
        return hr, draw_pairs(config, labels), _about(source, labels)
    directory = Path(data or config.data.dir or workdir / 'data')
    hr, labels = dataset.read_split(directory, split, limit)
    if not pairs:
        return hr, draw_pairs(config, labels), _about(str(directory), labels)
    keys = records.read_keys(directory, split)
    listed = metrics.choose_folds(metrics.read_pairs(pairs).pairs, folds, report, pairs)
    wanted = {key for pair in listed for key in (pair.key_a, pair.key_b)}
    missing = sorted(wanted - set(keys))
    if missing:
        raise records.DatasetError(
            f'{pairs} names {missing[0]} and {len(missing) - 1} more faces that are '
            f'not in the split {split!r} of {directory}. Choose folds that are, or '
            'give photographs by --images.'
        )
    kept = [index for index, key in enumerate(keys) if key in wanted]
    places = {keys[index]: row for row, index in enumerate(kept)}
    found = metrics.index_pairs(listed, places, report)
    shown = np.unique(np.stack([found.a, found.b])[:, found.reported])
    chosen = Pairs(**vars(found), shown=shown)
    hr, labels = hr[kept], labels[kept]
    return hr, chosen, _about(str(directory), labels[shown])


def compare(
    faces: Mapping[str, np.ndarray],
    pairs: Pairs,
    cnnr_directory: Path | None,
    judge: Judge,
) -> tuple[list[dict[str, Any]], dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Rows of the table, what they are means of, and what is to say of the judge.

    Identity similarity is the mean cosine between the features of a face and of its
    original: by the CNNR of stage 1 (the paper's rule, Sec. 4.2) and by the judge.

    Args:
      faces: as `methods.Methods` gives them.
      pairs: to verify by the judge.
      cnnr_directory: of the recognition stage; None for a run that has none, whose
        column of identity similarity is empty.
      judge: left out, with the reason, if it verifies fewer than 90% of HR pairs.

    Returns:
      The rows; method → column → the value of each face that is shown, and for
      'verification_accuracy' whether each reported pair is decided rightly; the judge.
    """
    shown = pairs.shown
    hr = faces['hr'][shown]
    similarity = _similarity_by(cnnr_directory, hr) if cnnr_directory else None
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
    rows = [{'method': 'hr'} | dict.fromkeys(_COLUMNS)]
    each: dict[str, dict[str, np.ndarray]] = {'hr': {}}
    if usable:
        rows[0]['verification_accuracy'] = accuracy
        each['hr']['verification_accuracy'] = right
    for method in (name for name in faces if name not in ('lr', 'hr')):
        sr = faces[method][shown]
        values = _quality(sr, hr)
        if similarity:
            values['identity_similarity'] = similarity(sr)
        if usable:
            seen, verified = judge.describe(faces[method])
            values['judge_similarity'] = metrics.pair_scores(
                seen[shown] - centre, hr_seen - centre
            )
        row = {'method': method} | dict.fromkeys(_COLUMNS)
        row |= {column: float(np.mean(value)) for column, value in values.items()}
        if usable:
            row['verification_accuracy'], right = pairs.verify(verified)
            values['verification_accuracy'] = right
        rows.append(row)
        each[method] = values
    return rows, each, judged


def _similarity_by(cnnr_directory, hr):
    """A function of faces: their similarity to these originals, by a CNNR."""
    params, record = checkpoint.load_networks(cnnr_directory, ['cnnr'])
    features = functools.partial(
        inference.extract_features, models.cnnr_from(record), params['cnnr']
    )
    hr_features = features(hr)
    return lambda sr: metrics.pair_scores(features(sr), hr_features)


def _quality(sr, hr):
    y, hr_y = metrics.luminance(sr), metrics.luminance(hr)
    return {
        'psnr': metrics.psnr(sr, hr),
        'ssim': metrics.ssim(sr, hr),
        'psnr_y': metrics.psnr(y, hr_y),
        'ssim_y': metrics.ssim(y, hr_y),
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
    first = max(8, *(len(row[0]) for row in cells))
    lines += [
        f'{method:<{first}}' + ''.join(f'{cell:>15}' for cell in row)
        for method, *row in cells
    ]
    return '\n'.join(lines)


def draw_pairs(config: ConfigDict, labels: np.ndarray) -> Pairs:
    """Verification pairs among faces, as many as the config wants, in ten folds."""
    a, b, same = metrics.draw_pairs(labels, at_most=config.evaluation.final_pairs)
    # Pairs alternate between same and different, so every fold holds both.
    fold = np.arange(len(same)) // 2 % 10 + 1
    reported = np.ones(len(same), bool)
    return Pairs(a, b, same, fold, reported, shown=np.arange(len(labels)))


def _about(source, labels):
    return {
        'data': source,
        'faces': len(labels),
        'identities': len(np.unique(labels)),
    }


def _write_each(each, path):
    arrays = {
        f'{method}/{column}': value.astype('bool' if value.dtype == bool else 'float32')
        for method, columns in each.items()
        for column, value in columns.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    results_file.write_whole(path, buffer.getvalue())


def _titled(faces):
    shown = dict(faces) | {'lr': pictures.enlarge_pixels(faces['lr'])}
    return {TITLES.get(method, method): images for method, images in shown.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    workdir, scale, out = (options.pop(name) for name in ('workdir', 'scale', 'out'))
    onnx_settings = {
        field: value
        for field in (*_ONNX_FLAGS, 'mirror')
        if (value := options.pop(f'onnx_{field}')) is not None
    }
    options |= {'onnx_settings': onnx_settings}
    photographs = {
        name: options.pop(name)
        for name in ('images', 'landmarks', 'flip', 'video', 'frames')
    }
    in_files = photographs['images'] or options['pairs'].lower().endswith('.bin')
    if workdir and (scale or out):
        parser.error('--scale and --out are for the network that ships.')
    if not workdir and not (out and (in_files or options['data'])):
        parser.error(
            '--workdir is missing. To evaluate the network that ships, give faces '
            '(--data=SHARDS, or --pairs with --images) and --out=DIRECTORY.'
        )
    if in_files and (options['data'] or not options['pairs']):
        parser.error('--images needs --pairs and goes without --data.')

    def evaluate():
        config = read_config(workdir) if workdir else _open_shipped(scale or 8, out)
        directory = workdir or out
        if not in_files:
            run(config, directory, **options)
            options['data'] = options['data'] or config.data.dir or directory / 'data'
        if options['pairs']:
            verify.run(config, directory, **options, **photographs)

    return command.run(evaluate)


def _open_shipped(scale, out):
    """The config of the networks that ship, which makes `out` the workdir of a run."""
    config = shipped_config(scale)
    text = config.to_json(indent=2)
    if (out / CONFIG).exists() and (out / CONFIG).read_text() != text:
        raise ValueError(f'--out={out} is the workdir of another run: give a new one.')
    print(weights.NOTICE, flush=True)
    results_file.write_whole(out / CONFIG, text.encode())
    return config


def _parser():
    parser = argparse.ArgumentParser(
        prog='python -m sicnn_jax.evaluate', description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        '--workdir',
        type=Path,
        help='of a finished run; default: the network that ships',
    )
    parser.add_argument(
        '--scale', type=int, choices=tuple(weights.CNNH), help='of that one; default: 8'
    )
    parser.add_argument('--out', type=Path, help='where its results are written')
    parser.add_argument('--data', default='', help='shards; default: those of the run')
    parser.add_argument('--split', default='test', help='of the shards')
    parser.add_argument(
        '--pairs',
        default='',
        help="LFW's pairs.txt, YTF's splits.txt, path_a,path_b,same[,fold] as .csv, or "
        'a .bin of InsightFace',
    )
    for name, text in (
        ('--folds', 'of --pairs, from 1; default: all'),
        ('--report', 'folds to average; default: all'),
    ):
        parser.add_argument(name, help=text, type=_numbers, default=(), metavar='N,N,…')
    parser.add_argument('--images', default='', help='directory of the images of pairs')
    parser.add_argument(
        '--landmarks',
        default='',
        help='five points of each image; default: the faces are in the middle',
    )
    parser.add_argument(
        '--flip',
        choices=verify.FLIPS,
        default='concat',
        help='features of a face and its mirror image; default: %(default)s',
    )
    parser.add_argument(
        '--video',
        choices=verify.VIDEOS,
        default='feature',
        help='average the features of frames or their scores; default: %(default)s',
    )
    parser.add_argument(
        '--frames', type=int, default=0, help='of a video at most; default: all'
    )
    parser.add_argument(
        '--judge',
        default='',
        help="'dlib' (real faces), a finished recognition stage, .safetensors or "
        '.onnx; default: that of the run',
    )
    group = parser.add_argument_group('input of model.onnx, over model.json beside it')
    for field, (kind, text) in _ONNX_FLAGS.items():
        group.add_argument(f'--onnx_{field}', type=kind, help=text)
    group.add_argument(
        '--onnx_mirror',
        action=argparse.BooleanOptionalAction,
        help='describe the mirrored face, too',
    )
    return parser


def _numbers(text):
    return tuple(int(number) for number in text.split(','))


def _factors(text):
    factors = tuple(float(number) for number in text.split(','))
    return factors if len(factors) > 1 else factors[0]


_ONNX_FLAGS: dict[str, tuple[Callable[[str], Any], str]] = {
    'size': (_numbers, 'height,width'),
    'mean': (_factors, 'the network is given (level − mean) · scale'),
    'scale': (_factors, 'likewise'),
    'colour_order': (str, 'RGB or BGR'),
    'layout': (str, 'NCHW or NHWC'),
}


if __name__ == '__main__':
    sys.exit(main())
