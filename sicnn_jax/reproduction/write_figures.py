"""Figures as PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sicnn_jax import inference, metrics, models, pictures, results_file
from sicnn_jax.data import folders, image_files
from sicnn_jax.evaluation.judge import load_judge
from sicnn_jax.evaluation.methods import load_methods
from sicnn_jax.reproduction.experiments import Cache
from sicnn_jax.reproduction.runs import Runs
from sicnn_jax.reproduction.tables import Row
from sicnn_jax.reproduction.write_tables import markdown
from sicnn_jax.template import HEIGHT, WIDTH
from sicnn_jax.workdir import load_cnnh


def read_faces(folder: Path) -> np.ndarray:
    """The pictures of a folder, which figures show instead of held-out faces.

    Returns:
      uint8 [n, 112, 96, 3], in the order of their names.

    Raises:
      ValueError: there is none, or one is not an aligned face of 96×112.
    """
    names, _ = folders.scan(folder, folders.PassedOver(), '')
    if not names:
        raise ValueError(f'--shown={folder}: there are no pictures in it.')
    faces = [image_files.load_image(str(folder / name)) for name in names]
    for name, face in zip(names, faces, strict=True):
        if face.shape != (HEIGHT, WIDTH, 3):
            raise ValueError(
                f'{folder / name} is {face.shape[1]}×{face.shape[0]}; expected an '
                f'aligned face of {WIDTH}×{HEIGHT} (python -m sicnn_jax.data.prepare '
                'aligns faces).'
            )
    return np.stack(faces)


def write_figure(
    path: Path,
    rows: Sequence[Row],
    cache: Cache,
    seed: int,
    shown: np.ndarray | None = None,
) -> None:
    """Writes a grid of faces, `shown` or some held-out ones."""
    if shown is None:
        # All rows of a figure have the same faces.
        first = rows[0].run(seed)
        hr, _ = cache.test_faces(first)
        count = first.resolved.evaluation.pictures
        shown = hr[np.linspace(0, len(hr) - 1, count).astype(int)]
    columns: dict[str, np.ndarray] = {}
    for row in rows:
        run = row.run(seed)
        made = load_methods(run.resolved, cache.directory(run))(shown)
        columns.setdefault('input', pictures.enlarge_pixels(made['lr']))
        columns[row.title] = made[row.method]
    columns['original'] = shown
    pictures.save_grid(path, columns)
    print(f'Written: {path}', flush=True)


def write_figure_4(path: Path, runs: Runs, cache: Cache, seed: int) -> None:
    """Figure 4: SR and HR features before and after DI, and the two gaps they show.

    The features are the judge's: in the space of its own network, approach II closes
    the gap by construction. t-SNE shows ten identities. The gaps are written next to
    the picture, as .md and .json.
    """
    from sklearn.manifold import TSNE

    sicnn, approaches = runs.sicnn(seed), runs.approaches(seed)
    config = sicnn.resolved
    hr, labels = cache.test_faces(sicnn)
    judge = load_judge(config.evaluation.judge)
    hr_features, _ = judge.describe(hr)
    lr = inference.degrade_faces(hr, scale=config.scale, kind=config.degradation)
    cnnhs = {
        'start': (sicnn, 'hallucination'),
        'L_SR only': (sicnn, 'sr_only'),
        'II': (approaches, 'approach_ii'),
        'III': (approaches, 'approach_iii'),
        'domain-integrated': (sicnn, 'domain_integrated'),
    }
    gaps, points = {}, {}
    drawn = np.isin(labels, np.unique(labels)[:10])
    for title, (run, stage) in cnnhs.items():
        params, record, _ = load_cnnh(cache.directory(run) / stage)
        sr = inference.super_resolve(models.cnnh_from(record), params, lr)
        sr_features, _ = judge.describe(sr)
        gaps[title] = {
            'centroid_distance': metrics.centroid_distance(sr_features, hr_features),
            'probe_accuracy': metrics.probe_accuracy(sr_features, hr_features, labels),
        }
        if title in ('start', 'domain-integrated'):
            both = np.concatenate([sr_features[drawn], hr_features[drawn]])
            both /= np.linalg.norm(both, axis=1, keepdims=True)
            points[title] = TSNE(random_state=0).fit_transform(both)
    half = int(drawn.sum())
    pictures.save_scatter(
        path,
        {title: (p[:half], p[half:]) for title, p in points.items()},
        np.unique(labels[drawn], return_inverse=True)[1],
    )
    rows = [
        (title, [f'{gap["centroid_distance"]:.4f}', f'{gap["probe_accuracy"]:.1%}'])
        for title, gap in gaps.items()
    ]
    columns = ['distance of the centroids', 'linear probe, SR or HR']
    text = '\n'.join(['### Figure 4: the two domains', '', *markdown(columns, rows)])
    print(text, flush=True)
    results_file.write_whole(path.with_suffix('.md'), (text + '\n').encode())
    results_file.write_results(
        {'gaps': gaps, 'judge': judge.name} | results_file.environment(),
        path.with_suffix('.json'),
    )
