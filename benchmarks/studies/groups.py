"""Results of CNNH for groups of faces, as far as photographs show such groups.

    python -m benchmarks.studies.groups --data=data/lfw --judge=judge.onnx \\
        --landmarks=landmarks.txt --networks=runs/a/approach_ii,runs/b/approach_ii

LFW does not assign people to groups. But its photographs show how light the cheeks are
(L* of CIELAB, which depends on light and make-up as well as on skin) and how far a head
is turned (the distance of the nose from the middle of the eyes, in eye distances). Both
divide the faces of the split `test` of `--data` into groups. The judge measures the
similarity to the original. Each network, at either scale, is a row.
"""

import argparse
from pathlib import Path

import numpy as np
from skimage import color

from benchmarks.measuring import markdown, write_record
from sicnn_jax import inference, metrics
from sicnn_jax.data import align, dataset, records
from sicnn_jax.evaluation.judge import load_judge
from sicnn_jax.inference import Hallucinator

# Rows and columns of the cheeks in an aligned face.
_CHEEKS = (slice(62, 80), (slice(22, 36), slice(60, 74)))
# From this distance on, a head counts as turned; a nose in the middle is at 0.
_TURNED = 0.15


def lightness(faces: np.ndarray) -> np.ndarray:
    """Median L* of both cheeks, float [n], from uint8 [n, 112, 96, 3]."""
    rows, columns = _CHEEKS
    cheeks = np.concatenate([faces[:, rows, each] for each in columns], axis=2)
    return np.median(color.rgb2lab(cheeks)[..., 0], axis=(1, 2))


def turning(landmarks: np.ndarray) -> np.ndarray:
    """Distances of noses from the middle of the eyes, float [n], from [n, 5, 2]."""
    left, right, nose = landmarks[:, 0], landmarks[:, 1], landmarks[:, 2]
    along = right - left
    off = np.sum((nose - (left + right) / 2) * along, axis=1)
    return np.abs(off) / np.sum(along**2, axis=1)


def part(faces: np.ndarray, landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """Name of a group → mask of the faces in it."""
    light = lightness(faces)
    first, second = np.percentile(light, (100 / 3, 200 / 3))
    turned = turning(landmarks) >= _TURNED
    return {
        'all': np.ones(len(faces), bool),
        f'darkest third (L* < {first:.0f})': light < first,
        'middle third': (light >= first) & (light < second),
        f'lightest third (L* ≥ {second:.0f})': light >= second,
        f'facing (nose within {_TURNED} of the middle)': ~turned,
        'turned': turned,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--data', type=Path, required=True, help='shards with unseen people as test')
    add('--judge', required=True, help='as for sicnn_jax.evaluate')
    add('--landmarks', type=Path, required=True, help='of the photographs')
    add('--networks', required=True, help='stages or packed networks: A,B,…')
    options = parser.parse_args()
    hr, _ = dataset.read_split(options.data, 'test')
    known = align.read_landmarks(options.landmarks)
    keys = records.read_keys(options.data, 'test')
    groups = part(hr, np.stack([known[key] for key in keys]))
    judge = load_judge(options.judge)
    seen, _ = judge.describe(hr)
    centre = seen.mean(0) if judge.centred else 0.0
    rows, record = [], {'faces': {name: int(who.sum()) for name, who in groups.items()}}
    for network in options.networks.split(','):
        hallucinator = Hallucinator(network)
        lr = inference.degrade_faces(
            hr, scale=hallucinator.scale, kind=hallucinator.degradation
        )
        made = {'bicubic': hallucinator.enlarge(lr), 'SICNN': hallucinator(lr)}
        for method, sr in made.items():
            described, _ = judge.describe(sr)
            similarity = metrics.pair_scores(described - centre, seen - centre)
            psnr = metrics.psnr(sr, hr)
            name = f'{method}, {hallucinator.scale}× ({network})'
            record[name] = {
                group: [float(psnr[who].mean()), float(similarity[who].mean())]
                for group, who in groups.items()
                if who.any()
            }
            cells = [f'{p:.2f} dB, {s:.3f}' for p, s in record[name].values()]
            rows.append((name, cells))
    write_record('groups', record | {'judge': Path(options.judge).name})
    columns = tuple(
        f'{name} ({count})' for name, count in record['faces'].items() if count
    )
    print(markdown(columns, rows))


if __name__ == '__main__':
    main()
