"""One HTML page about a run: results beside the paper's, faces, curves, speed, config.

    python -m sicnn_jax.report --workdir=runs/di-demo

Writes `report.html` into the workdir: one file that asks for nothing from elsewhere.
What the run does not have yet is left out, with the reason.
"""

import argparse
import html
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sicnn_jax import checkpoint, command, inference, metrics, models
from sicnn_jax.data import dataset, records
from sicnn_jax.evaluation import published
from sicnn_jax.evaluation.methods import TITLES, load_methods
from sicnn_jax.html_page import (
    Figure,
    details,
    histogram,
    image_source,
    line_chart,
    number,
    page,
    table,
)
from sicnn_jax.results_file import write_whole
from sicnn_jax.workdir import read_config, recognition_directory, stage_directory

_MEASURES = {
    'psnr': ('PSNR', '{:.2f}'),
    'ssim': ('SSIM', '{:.4f}'),
    'identity_similarity': ('identity sim.', '{:.4f}'),
    'judge_similarity': ('judge sim.', '{:.4f}'),
    'verification_accuracy': ('verification', '{:.1%}'),
}
# Curves that every reader looks for; the others are a click away.
_MAIN = ('_loss', 'psnr', 'similarity', 'accuracy')
# What falls over orders of magnitude.
_FALLING = ('_loss', 'annealing', 'gradient_norm')
_SHOWN = 12

_STYLE = """
.face { position: relative; display: inline-block; width: 144px; height: 168px;
  margin: 3px; }
.face img { position: absolute; inset: 0; width: 100%; height: 100%; }
.face img.lr { image-rendering: pixelated; }
#view { width: 30em; max-width: 100%; vertical-align: middle; }
"""
_NO_SCRIPT = (
    '<noscript><style>.face { width: auto; height: auto; } .face img { position: '
    'static; width: 96px; height: 112px; }</style></noscript>'
)
_SCRIPT = """
<script>
const view = document.getElementById('view'), titles = JSON.parse(view.dataset.titles);
view.oninput = () => {
  for (const image of document.querySelectorAll('.face img')) {
    const seen = Math.min(1, Math.max(0, view.value - image.dataset.place + 1));
    image.style.clipPath = `inset(0 ${100 * (1 - seen)}% 0 0)`;
  }
  document.getElementById('seen').textContent = titles[Math.round(view.value)];
};
view.oninput();
</script>
"""


def write_report(workdir: Path, out: Path, *, faces: int = 256) -> None:
    """Writes the page.

    Args:
      workdir: of a run, finished or not.
      out: the file, written whole or not at all.
      faces: held-out ones that the histograms of similarity are over, at most.

    Raises:
      ValueError: the workdir is none.
    """
    config = read_config(workdir)
    try:
        made = _make_faces(config, workdir, faces)
        pictures = compare_faces(made)
        similarity = _similarities(config, workdir, made)
    except (ValueError, OSError) as error:
        pictures = similarity = _left_out(str(error))
    lines = {
        name: read_metrics(stage_directory(config, name, workdir))
        for name in config.stages
    }
    sections = [
        ('Results', _results(config, workdir)),
        *_verification(workdir),
        ('Faces', pictures),
        ('Identity similarity, face by face', similarity),
        ('Stages and speed', _speed(config, lines)),
        *((f'Training: {name}', draw_curves(found)) for name, found in lines.items()),
        ('Environment', _environment(workdir)),
        ('Config', _config(config)),
    ]
    title = f'SICNN: {workdir.resolve().name}'
    write_whole(out, page(title, sections, _STYLE).encode())


def read_metrics(stage: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` of a stage; none where it has not begun.

    A killed run may leave half a line, which is passed over.
    """
    path = stage / 'metrics.jsonl'
    found = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def compare_faces(methods: Mapping[str, np.ndarray]) -> str:
    """Faces as HTML, with a slider from method to method.

    Args:
      methods: method → uint8 [n, h, w, 3], in the order of the slider.
    """
    count = len(next(iter(methods.values())))
    chosen = np.unique(np.linspace(0, count - 1, min(count, _SHOWN)).astype(int))
    titles = [TITLES.get(method, method) for method in methods]
    pictures = ''.join(
        '<span class="face">'
        + ''.join(
            f'<img class="{method}" data-place="{place}" alt="{title}" '
            f'src="{image_source(images[index])}">'
            for place, (title, (method, images)) in enumerate(
                zip(titles, methods.items(), strict=True)
            )
        )
        + '</span>'
        for index in chosen
    )
    last = len(titles) - 1
    return (
        f'{_NO_SCRIPT}<p>{" / ".join(titles)}<br><input id="view" type="range" min="0" '
        f'max="{last}" step="0.01" value="{max(last - 1, 0)}" aria-label="method" '
        f'data-titles=\'{json.dumps(titles)}\'> <b id="seen"></b></p>'
        f'<p>{pictures}</p><p>{len(chosen)} of {count} held-out faces.</p>{_SCRIPT}'
    )


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
        return _left_out('the run has no recognition network')
    params, record = checkpoint.load_networks(directory, ['cnnr'])
    cnnr = models.cnnr_from(record)
    hr = inference.extract_features(cnnr, params['cnnr'], made['hr'])
    parts = [
        '<p>Cosine between the features of a face and of its original, by the '
        'recognition network of stage 1.</p>'
    ]
    scores = {
        method: metrics.pair_scores(
            inference.extract_features(cnnr, params['cnnr'], sr), hr
        )
        for method, sr in made.items()
        if method not in ('lr', 'hr')
    }
    # One axis for all.
    least = min(0.0, *map(np.min, scores.values()))
    limits = (np.floor(least * 10) / 10, 1.0)
    parts += [
        f'<h3>{TITLES.get(method, method)}: mean {values.mean():.4f}</h3>'
        + histogram(values, 'cosine', 'faces', limits)
        for method, values in scores.items()
    ]
    return ''.join(parts)


def _results(config, workdir):
    path = workdir / 'results.json'
    if not path.is_file():
        return _left_out(
            f'there is no {path.name}; python -m sicnn_jax.evaluate '
            f'--workdir={workdir} writes it once all stages are finished'
        )
    results = json.loads(path.read_text())
    paper = published.FIGURES.get(config.scale, {})
    known = {field for row in paper.values() for field in row}
    columns, rows = ['method'], []
    for field, (title, _) in _MEASURES.items():
        columns += [title, 'paper'] if field in known else [title]
    for row in results['rows']:
        cells = [TITLES.get(row['method'], row['method'])]
        for field, (_, form) in _MEASURES.items():
            cells.append(number(row.get(field), form))
            if field in known:
                figure = paper.get(row['method'], {}).get(field)
                cells.append(number(figure, form.replace('.4f', '.3f')))
        rows.append(cells)
    judge = results['judge']
    reason = f' The judge {judge["reason"]}.' if 'reason' in judge else ''
    note = (
        f'{results["faces"]:,} faces of {results["identities"]:,} identities never '
        f'seen ({results["data"]}), {results["pairs"]:,} pairs; judge: '
        f'{judge["name"]}.{reason} The paper’s figures are of its own photographs and '
        'of the full networks: to be compared with those of such a run only.'
    )
    return table(columns, rows) + f'<p>{html.escape(note)}</p>'


def _verification(workdir: Path) -> Iterator[tuple[str, str]]:
    path = workdir / 'verification.json'
    if not path.is_file():
        return
    results = json.loads(path.read_text())
    rows = [
        (
            row['recogniser'],
            TITLES.get(row['method'], row['method']),
            *(
                number(row[field], '{:.2%}')
                for field in ('accuracy', 'eer', 'published')
            ),
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


def draw_curves(lines: Sequence[Mapping[str, Any]]) -> str:
    """Curves of all that a stage measured, as HTML; see `read_metrics`."""
    if not lines:
        return _left_out('there is no metrics.jsonl: it has not begun, or was given')
    fields = sorted({field for line in lines for field in line} - {'step'})
    charts = {
        field: [
            (step, value)
            for line in lines
            if (step := line['step']) is not None
            and (value := line.get(field)) is not None
        ]
        for field in fields
    }
    drawn = {
        field: line_chart(
            field.replace('_', ' '),
            points,
            logarithmic=field.endswith(_FALLING) and min(y for _, y in points) > 0,
        )
        for field, points in charts.items()
        if points
    }
    main = [chart for field, chart in drawn.items() if field.endswith(_MAIN)]
    others = [chart for field, chart in drawn.items() if not field.endswith(_MAIN)]
    return ''.join(main) + details('Norms, λ, speed', ''.join(others))


def _environment(workdir):
    path = workdir / 'results.json'
    if not path.is_file():
        return _left_out('it is written with results.json')
    results = json.loads(path.read_text())
    found = {field: results.get(field, '') for field in ('device', 'machine')}
    rows = [*found.items(), *results.get('versions', {}).items()]
    return table(('of the evaluation', ''), rows)


def _config(config):
    def flat(fields, prefix=''):
        for name, value in fields.items():
            if isinstance(value, Mapping):
                yield from flat(value, f'{prefix}{name}.')
            else:
                yield f'{prefix}{name}', json.dumps(value, ensure_ascii=False)

    fields = json.loads(config.to_json())
    return details('All fields', table(('field', 'value'), flat(fields)))


def _left_out(reason):
    return f'<p>Left out: {html.escape(reason.removesuffix("."))}.</p>'


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m sicnn_jax.report', description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add('--workdir', required=True, type=Path, help='of a run, finished or not')
    add('--out', type=Path, help='default: report.html in the workdir')
    add('--faces', type=int, default=256, help='held-out faces; default: %(default)s')
    options = parser.parse_args(arguments)
    if options.faces < 1:
        parser.error(f'--faces is {options.faces}; expected at least 1.')
    out = options.out or options.workdir / 'report.html'

    def write():
        write_report(options.workdir, out, faces=options.faces)
        print(f'Written: {out}')

    return command.run(write)


if __name__ == '__main__':
    sys.exit(main())
