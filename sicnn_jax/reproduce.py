"""The tables and figures of the paper, from what was trained or is trained now.

    python -m sicnn_jax.reproduce --table=2,3,4,5,6 --scale=demo
    python -m sicnn_jax.reproduce --figure=5 --scale=small \\
        --config.data.source=records --config.data.dir=/data/faces
    python -m sicnn_jax.reproduce --table=3 --dry_run

Trains what is missing in a cache of runs, which tables and figures share, and writes
`tableN.md`, `tableN.json` and `figureN.png`. An interrupted call continues with the
same command; a second one trains nothing. `--config.FIELD=VALUE` holds for every run
that has the field. Figures of ours are means over `--seeds` where a row has several
(± standard deviation), and stand beside the paper's.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sicnn_jax import (
    checkpoint,
    command,
    hooks,
    inference,
    metrics,
    models,
    pictures,
    results_file,
)
from sicnn_jax.comparisons import (
    SCALES,
    Row,
    Runs,
    Table,
    figures,
    needed,
    recognised,
    seeds_of,
    tables,
)
from sicnn_jax.evaluation import published
from sicnn_jax.evaluation.compare import EACH_FILE
from sicnn_jax.evaluation.judge import load_judge
from sicnn_jax.evaluation.methods import load_methods
from sicnn_jax.experiments import Cache, Run, describe

_RESAMPLES = 2_000
# A difference of less than so many standard errors is a tie.
_TIE = 2.0
_TSNE_IDENTITIES = 10
_TITLES = {
    'psnr': 'PSNR',
    'ssim': 'SSIM',
    'identity_similarity': 'identity similarity',
    'judge_similarity': 'judge similarity',
    'verification_accuracy': 'verification by the judge',
    'recognisability': 'recognisability',
}
# Of the paper, where it is another.
_PAPER_TITLES = {'recognisability': 'LFW'}
_PERCENT = {'verification_accuracy', 'recognisability'}


class Results:
    """What finished runs of a cache measured."""

    def __init__(self, cache: Cache, runs: Runs):
        self._cache, self._runs = cache, runs

    def each(self, row: Row, column: str, seed: int) -> np.ndarray | None:
        """Values of faces, or of pairs; None where it was not measured."""
        if column == 'recognisability':
            return self.recognition(recognised(self._runs, row, seed))
        path = self._cache.directory(row.run(seed)) / EACH_FILE
        if not path.is_file():
            return None
        with np.load(path) as arrays:
            name = f'{row.method}/{column}'
            return arrays[name].astype(np.float64) if name in arrays else None

    def recognition(self, run: Run) -> np.ndarray | None:
        """Which held-out pairs the CNNR of a run verifies; None if it is not trained.

        Pairs of the faces that it was given, features of face and mirror image.
        """
        directory = self._cache.directory(run)
        if not self._cache.is_finished(run):
            return None
        path = directory / 'recognition_pairs.json'
        if not path.is_file():
            hr, labels = self._cache.test_faces(run)
            params, record = checkpoint.load_networks(
                directory / 'recognition', ['cnnr']
            )
            verify = hooks.verify_recognition(
                models.cnnr_from(record),
                hr,
                labels,
                num_pairs=run.resolved.evaluation.final_pairs,
            )
            right = verify(params).right
            results_file.write_results({'right': right.astype(int).tolist()}, path)
        return np.array(json.loads(path.read_text())['right'], np.float64)

    def means(self, row: Row, column: str, seeds: Sequence[int]) -> np.ndarray | None:
        """Mean of each seed of a row."""
        values = [self.each(row, column, seed) for seed in seeds_of(row, seeds)]
        found = [value.mean() for value in values if value is not None]
        return np.array(found) if found else None

    def compare(
        self, worse: Row, better: Row, column: str, seeds: Sequence[int]
    ) -> tuple[float, float] | None:
        """Difference of two rows and its standard error.

        Over faces or pairs by a paired bootstrap, and over the seeds that both have:
        the larger of the two.
        """
        both = [
            seed for seed in seeds_of(worse, seeds) if seed in seeds_of(better, seeds)
        ]
        pairs = [
            (self.each(worse, column, seed), self.each(better, column, seed))
            for seed in both
        ]
        differences = [b - a for a, b in pairs if a is not None and b is not None]
        if not differences:
            return None
        each = np.mean(differences, axis=0)
        error = bootstrap_error(each)
        if len(differences) > 1:
            spread = np.std([d.mean() for d in differences], ddof=1)
            error = max(error, spread / np.sqrt(len(differences)))
        return float(each.mean()), float(error)


def bootstrap_error(differences: np.ndarray) -> float:
    """Standard error of a mean of paired differences, by resampling them."""
    rng = np.random.default_rng(0)
    count = len(differences)
    means = [
        differences[rng.integers(0, count, count)].mean() for _ in range(_RESAMPLES)
    ]
    return float(np.std(means))


def verdict(difference: float, error: float) -> str:
    """What an ordering is worth: 'holds', 'tie' or 'does not hold'."""
    if abs(difference) < _TIE * error or difference == 0:
        return 'tie'
    return 'holds' if difference > 0 else 'does not hold'


def write_table(
    name: str, table: Table, results: Results, seeds: Sequence[int], out: Path
) -> None:
    """Writes and prints a table and what became of its claims."""
    rows, record = [], []
    of_the_paper = [
        column
        for column in table.columns
        if any(column in row.paper for row in table.rows)
    ]
    for row in table.rows:
        measured = {c: results.means(row, c, seeds) for c in table.columns}
        cells = [_cell(c, measured[c]) for c in table.columns]
        cells += [_number(c, row.paper.get(c)) for c in of_the_paper]
        rows.append((row.title, cells))
        record.append(
            {
                'title': row.title,
                'seeds': list(seeds_of(row, seeds)),
                'ours': {
                    c: None if v is None else v.tolist() for c, v in measured.items()
                },
                'paper': dict(row.paper),
            }
        )
    columns = [_TITLES[c] for c in table.columns]
    columns += [
        f'{_PAPER_TITLES.get(column, _TITLES[column])} (paper)'
        for column in of_the_paper
    ]
    claims = list(_claims(table, results, seeds))
    lines = [f'### {table.title}', '', *_markdown(columns, rows)]
    if claims:
        lines += ['', *(f'- {_sentence(claim)}' for claim in claims)]
    _write(name, lines, {'rows': record, 'claims': claims}, out)


def _claims(table, results, seeds):
    by_title = {row.title: row for row in table.rows}
    for column, titles in table.claims:
        for worse, better in itertools.pairwise(titles):
            found = results.compare(by_title[worse], by_title[better], column, seeds)
            if found is not None:
                difference, error = found
                yield {
                    'column': column,
                    'better': better,
                    'worse': worse,
                    'difference': difference,
                    'standard_error': error,
                    'verdict': verdict(difference, error),
                }


def _sentence(claim):
    return (
        f'{_TITLES[claim["column"]]}, {claim["better"]} above {claim["worse"]}: '
        f'**{claim["verdict"]}** ({claim["difference"]:+.4f} ± '
        f'{claim["standard_error"]:.4f})'
    )


def write_table_6(results: Results, runs: Runs, seed: int, out: Path) -> None:
    """Writes our verification beside that of Table 6's systems."""
    sicnn = runs.sicnn(seed)
    ours = {
        'CNNR, originals (ours)': ('96×112', results.recognition(sicnn)),
        'SICNN + CNNR (ours)': (
            '12×14',
            results.recognition(runs.recognisability(sicnn, 'sicnn', seed)),
        ),
    }
    rows = [
        (name, [size, _cell('recognisability', None if v is None else v[None].mean(1))])
        for name, (size, v) in ours.items()
    ]
    rows = [(name, [size, ours, '', '']) for name, (size, ours) in rows]
    rows += [
        (name, [size, '', *(_number('recognisability', v) for v in accuracies)])
        for name, (size, *accuracies) in published.SYSTEMS.items()
    ]
    columns = ['input', 'held-out pairs of this data set', 'LFW', 'YTF']
    lines = ['### Table 6: verification', '', *_markdown(columns, rows)]
    record = {
        'ours': {
            n: None if v is None else float(v.mean()) for n, (_, v) in ours.items()
        },
        'published': published.SYSTEMS,
    }
    _write('table6', lines, record, out)


def _write(name, lines, record, out):
    text = '\n'.join(lines) + '\n'
    print(text, flush=True)
    results_file.write_whole(out / f'{name}.md', text.encode())
    results_file.write_results(
        record | results_file.environment(), out / f'{name}.json'
    )


def _cell(column, values):
    if values is None:
        return ''
    text = _number(column, values.mean())
    if len(values) > 1:
        text += f' ± {_number(column, values.std(ddof=1))}'
    return text


def _number(column, value):
    if value is None:
        return ''
    if column in _PERCENT:
        return f'{value:.1%}'
    return f'{value:.2f}' if column == 'psnr' else f'{value:.4f}'


def _markdown(columns, rows):
    yield '| | ' + ' | '.join(columns) + ' |'
    yield '| --- |' + ' ---: |' * len(columns)
    for title, cells in rows:
        yield f'| {title} | ' + ' | '.join(cells) + ' |'


def write_figure(
    number: int, rows: Sequence[Row], cache: Cache, seed: int, out: Path
) -> None:
    """Writes a grid of held-out faces."""
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
    path = out / f'figure{number}.png'
    pictures.save_grid(path, columns)
    print(f'Written: {path}', flush=True)


def write_figure_4(runs: Runs, cache: Cache, seed: int, out: Path) -> None:
    """Figure 4: SR and HR features before and after DI, and the two gaps they show.

    In the judge's space, for approach II beside it, whose own network's space it closes
    the gap in by construction. t-SNE shows ten identities.
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
    drawn = np.isin(labels, np.unique(labels)[:_TSNE_IDENTITIES])
    for title, (run, stage) in cnnhs.items():
        params, record = checkpoint.load_networks(
            cache.directory(run) / stage, ['cnnh']
        )
        sr = inference.super_resolve(models.cnnh_from(record), params['cnnh'], lr)
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
        out / 'figure4.png',
        {title: (p[:half], p[half:]) for title, p in points.items()},
        np.unique(labels[drawn], return_inverse=True)[1],
    )
    rows = [
        (title, [f'{gap["centroid_distance"]:.4f}', f'{gap["probe_accuracy"]:.1%}'])
        for title, gap in gaps.items()
    ]
    columns = ['distance of the centroids', 'linear probe, SR or HR']
    text = '\n'.join(['### Figure 4: the two domains', '', *_markdown(columns, rows)])
    print(text, flush=True)
    results_file.write_whole(out / 'figure4.md', (text + '\n').encode())
    results_file.write_results(
        {'gaps': gaps, 'judge': judge.name} | results_file.environment(),
        out / 'figure4.json',
    )


def several(kind: Callable[[str], Any], choices: Collection) -> Callable[[str], list]:
    """The type of an option with several values; no choices admit all."""

    def parse(text):
        values = [kind(value) for value in text.split(',')]
        wrong = [value for value in values if choices and value not in choices]
        if wrong:
            listed = ', '.join(map(str, choices))
            raise argparse.ArgumentTypeError(f'{wrong[0]}; expected some of {listed}')
        return values

    return parse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What every command has that trains the rows of tables."""
    add = parser.add_argument
    add('--scale', choices=tuple(SCALES), default='demo')
    add('--seeds', type=several(int, ()), default=[0], metavar='N,N')
    add(
        '--row',
        action='append',
        default=[],
        metavar='TITLE',
        help='of the tables, train what this one needs (may be repeated); what the '
        'others need is shown where it is trained already. Default: all',
    )
    add('--cache', type=Path, help='of runs; default: runs/reproduce/SCALE')
    add('--out', type=Path, help='default: the cache')
    add('--dry_run', action='store_true', help='say what would be trained')


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """The options of `add_flags` and a command's own, and (field, value) of a config.

    The cache and where to write are those of the scale if they are not given.
    """
    options, rest = parser.parse_known_args(arguments)
    overrides = []
    for argument in rest:
        field, equals, value = argument.removeprefix('--config.').partition('=')
        if not argument.startswith('--config.') or not equals:
            parser.error(f'unknown: {argument}; expected --config.FIELD=VALUE.')
        overrides.append((field, value))
    options.cache = options.cache or Path('runs/reproduce') / options.scale
    options.out = options.out or options.cache
    return options, overrides


def exit_status(work: Callable[[], None]) -> int:
    """Of a command that does this."""
    # A run that failed is an error, too.
    return command.run(work, errors=(*command.ERRORS, RuntimeError), goes_on=True)


def check_rows(titles: Iterable[str], asked: Iterable[Table]) -> None:
    """Raises ValueError for a title that no table has a row of."""
    known = {row.title: None for table in asked for row in table.rows}
    for title in titles:
        if title not in known:
            raise ValueError(f'--row={title}: expected one of {", ".join(known)}.')


def chosen(table: Table, titles: Collection[str]) -> list[Row]:
    """The rows with these titles; all of them if there are none."""
    return [row for row in table.rows if not titles or row.title in titles]


def train_missing(cache: Cache, runs: Iterable[Run], *, dry_run: bool) -> None:
    """Says which runs are missing, and trains them unless it is a dry run."""
    missing = cache.missing(runs)
    for line in describe(cache, missing):
        print(line, flush=True)
    if not dry_run:
        for run in missing:
            cache.train(run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m sicnn_jax.reproduce', description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add('--table', type=several(int, (2, 3, 4, 5, 6)), default=[], metavar='N,N')
    add('--figure', type=several(int, (1, 3, 4, 5, 6, 7)), default=[], metavar='N,N')
    add(
        '--without_recognisability',
        action='store_true',
        help='train no fresh CNNR on what each method makes (Sec. 4.7)',
    )
    add_flags(parser)
    options, overrides = parse(parser, arguments)
    if not (options.table or options.figure):
        parser.error('say which, such as --table=3 or --figure=3,5.')
    return exit_status(lambda: _reproduce(options, overrides))


def _reproduce(options, overrides):
    runs = Runs(options.scale, overrides)
    cache, out = Cache(options.cache), options.out
    seed, shown, wanted = options.seeds[0], figures(runs), tables(runs)
    check_rows(
        options.row, [wanted[number] for number in options.table if number in wanted]
    )
    train_missing(cache, _needs(options, runs, wanted, shown), dry_run=options.dry_run)
    if options.dry_run:
        return
    results = Results(cache, runs)
    for number in options.table:
        if number == 6:
            write_table_6(results, runs, seed, out)
        else:
            write_table(f'table{number}', wanted[number], results, options.seeds, out)
    for number in options.figure:
        if number == 4:
            write_figure_4(runs, cache, seed, out)
        else:
            write_figure(number, shown[number], cache, seed, out)


def _needs(options, runs, wanted, shown):
    """The runs that the tables and figures are of."""
    seed = options.seeds[0]
    sicnn, needs = runs.sicnn(seed), []
    for number in options.table:
        if number == 6:
            needs += [sicnn, runs.recognisability(sicnn, 'sicnn', seed)]
            continue
        table = wanted[number]
        needs += needed(
            runs,
            chosen(table, options.row),
            options.seeds,
            recognisability=not options.without_recognisability
            and 'recognisability' in table.columns,
        )
    for number in options.figure:
        if number == 4:
            needs += [sicnn, runs.approaches(seed)]
        else:
            needs += [row.run(seed) for row in shown[number]]
    return needs


if __name__ == '__main__':
    sys.exit(main())
