"""The page about a run: results and the paper's, faces, curves, speed, config."""

import html
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import flax
import numpy as np

from sicnn_jax import names
from sicnn_jax.columns import MEASURES
from sicnn_jax.data import dataset, records
from sicnn_jax.evaluation import published
from sicnn_jax.evaluation.compare import similarity_by
from sicnn_jax.evaluation.held_out import describe_people
from sicnn_jax.evaluation.methods import TITLES, load_methods
from sicnn_jax.reports.curves import draw_curves, read_metrics
from sicnn_jax.reports.faces import STYLE, compare_faces
from sicnn_jax.reports.html_page import (
    Figure,
    details,
    histogram,
    left_out,
    number,
    page,
    table,
)
from sicnn_jax.results_file import read_json, write_whole
from sicnn_jax.workdir import read_config, recognition_directory, stage_directory

__all__ = ['write_report']


def write_report(workdir: Path, out: Path, *, faces: int = 256) -> None:
    """Writes the page.

    Args:
      workdir: of a run, finished or not.
      out: the file, written whole or not at all.
      faces: the most held-out faces for the histograms of similarity.

    Raises:
      ValueError: the directory is not a workdir.
    """
    config = read_config(workdir)
    try:
        made = _make_faces(config, workdir, faces)
        pictures = compare_faces(made)
        similarity = _similarities(config, workdir, made)
    except (ValueError, OSError) as error:
        pictures = similarity = left_out(str(error))
    lines = {
        name: read_metrics(stage_directory(config, name, workdir))
        for name in config.stages
    }
    path = workdir / 'results.json'
    results = read_json(path) if path.is_file() else None
    sections = [
        ('Results', _results(config, workdir, results)),
        *_verification(workdir),
        ('Faces', pictures),
        ('Identity similarity, face by face', similarity),
        ('Stages and speed', _speed(config, lines)),
        *((f'Training: {name}', draw_curves(found)) for name, found in lines.items()),
        ('Environment', _environment(results)),
        ('Config', _config(config)),
    ]
    title = f'SICNN: {workdir.resolve().name}'
    write_whole(out, names.encode(page(title, sections, STYLE)))


def _make_faces(config, workdir, limit):
    source = config.data.source
    directory = Path(config.data.dir or workdir / 'data')
    if source != 'procedural' and not (directory / records.SIDECAR).is_file():
        raise ValueError(f'the faces of the run are not in {directory}')
    hr, _ = dataset.open_faces(config.data, workdir).test_faces(limit)
    if not len(hr):
        raise ValueError("the data of the run have no held-out people (split 'test')")
    return load_methods(config, workdir)(hr)


def _similarities(config, workdir, made):
    directory = recognition_directory(config, workdir)
    if directory is None:
        return left_out('the run has no recognition network')
    similarity = similarity_by(directory, made['hr'])
    parts = [
        '<p>Cosine between the features of a face and of its original, by the '
        'recognition network of stage 1.</p>'
    ]
    scores = {
        method: similarity(sr)
        for method, sr in made.items()
        if method not in ('lr', 'hr')
    }
    # All histograms share one axis.
    least = min(0.0, *map(np.min, scores.values()))
    limits = (np.floor(least * 10) / 10, 1.0)
    parts += [
        f'<h3>{TITLES.get(method, method)}: mean {values.mean():.4f}</h3>'
        + histogram(values, 'cosine', 'faces', limits)
        for method, values in scores.items()
    ]
    return ''.join(parts)


def _results(config, workdir, results):
    if results is None:
        return left_out(
            'there is no results.json; python -m sicnn_jax.evaluate '
            f'--workdir={workdir} writes it once all stages are finished'
        )
    paper = published.FIGURES.get(config.scale, {})
    known = {field for row in paper.values() for field in row}
    columns, rows = ['method'], []
    for field, (title, _) in MEASURES.items():
        columns += [title, 'paper'] if field in known else [title]
    for row in results['rows']:
        cells = [TITLES.get(row['method'], row['method'])]
        for field, (_, form) in MEASURES.items():
            cells.append(number(row.get(field), form))
            if field in known:
                figure = paper.get(row['method'], {}).get(field)
                cells.append(number(figure, form.replace('.4f', '.3f')))
        rows.append(cells)
    judge = results['judge']
    reason = f' The judge {judge["reason"]}.' if 'reason' in judge else ''
    note = (
        f'{results["faces"]:,} faces of {describe_people(results)} '
        f'({results["data"]}), {results["pairs"]:,} pairs; judge: '
        f'{judge["name"]}.{reason} The paper’s figures are for its own photographs and '
        'the full networks: compare them only with the figures of such a run.'
    )
    return table(columns, rows) + f'<p>{html.escape(note)}</p>'


def _verification(workdir: Path) -> Iterator[tuple[str, str]]:
    path = workdir / 'verification.json'
    if not path.is_file():
        return
    results = read_json(path, 'rows', 'pairs_file', 'pairs_reported')
    rows = [
        (
            row['recogniser'],
            TITLES.get(row['method'], row['method']),
            number(row['accuracy'], '{:.2%}'),
            number(row['eer'], '{:.2%}'),
            number(row['published'], '{:.2%}'),
        )
        for row in results['rows']
    ]
    columns = ('recogniser', 'faces', 'accuracy', 'EER', 'paper')
    name = Path(results['pairs_file']).name
    note = f'<p>{results["pairs_reported"]:,} pairs. All: verification.json.</p>'
    yield f'Verification: {name}', table(columns, rows) + note


def _speed(config, lines):
    rows = []
    for name, found in lines.items():
        stage = config[name]
        rates = [line['images_per_second'] for line in found]
        steps = [0, *(line['step'] for line in found)]
        seconds = sum(
            (after - before) * stage.batch_size / rate
            for before, after, rate in zip(steps, steps[1:], rates, strict=False)
        )
        rows.append(
            (
                name,
                stage.update_rule,
                Figure(f'{steps[-1]:,} of {stage.steps:,}'),
                stage.batch_size,
                Figure(f'{stage.get("alpha", 0):g}'),
                number(statistics.median(rates) if rates else None, '{:.1f}'),
                number(seconds / 60 if rates else None, '{:.1f}'),
            )
        )
    columns = ('stage', 'rule', 'steps', 'batch', 'α', 'images/s', 'minutes')
    return table(columns, rows) + (
        '<p>Images/s: median over the lines of metrics.jsonl; minutes with compilation '
        'and evaluation, without interruptions.</p>'
    )


def _environment(results):
    if results is None:
        return left_out('it is written with results.json')
    found = {field: results.get(field, '') for field in ('device', 'machine')}
    rows = [*found.items(), *results.get('versions', {}).items()]
    return table(('of the evaluation', ''), rows)


def _config(config):
    fields = flax.traverse_util.flatten_dict(json.loads(config.to_json()), sep='.')
    rows = [(name, json.dumps(v, ensure_ascii=False)) for name, v in fields.items()]
    return details('All fields', table(('field', 'value'), rows))
