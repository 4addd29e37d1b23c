"""Tables as Markdown and JSON, with our figures and the paper's."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sicnn_jax import results_file
from sicnn_jax.columns import MEASURES
from sicnn_jax.evaluation import published
from sicnn_jax.reproduction.results import Results
from sicnn_jax.reproduction.runs import Runs
from sicnn_jax.reproduction.tables import Table, seeds_of, training_steps

_TITLES = {
    'psnr': 'PSNR',
    'ssim': 'SSIM',
    'identity_similarity': 'identity similarity',
    'judge_similarity': 'judge similarity',
    'verification_accuracy': 'verification by the judge',
    'recognisability': 'recognisability',
}
# The paper's columns that have other titles.
_PAPER_TITLES = {'recognisability': 'LFW'}


def write_table(
    name: str, table: Table, results: Results, seeds: Sequence[int], out: Path
) -> list[dict[str, Any]]:
    """Writes and prints a table and the verdicts on its claims, which it returns."""
    rows, record = [], []
    of_the_paper = [
        c for c in table.columns if any(c in row.paper for row in table.rows)
    ]
    for row in table.rows:
        measured = {c: results.means(row, c, seeds) for c in table.columns}
        cells = [_cell(c, means) for c, means in measured.items()]
        cells += [_number(c, row.paper.get(c)) for c in of_the_paper]
        rows.append((row.title, cells))
        ours = {c: None if v is None else v.tolist() for c, v in measured.items()}
        about = {'title': row.title, 'seeds': list(seeds_of(row, seeds))}
        record.append(about | {'ours': ours, 'paper': dict(row.paper)})
    columns = [_TITLES[c] for c in table.columns]
    columns += [f'{(_TITLES | _PAPER_TITLES)[c]} (paper)' for c in of_the_paper]
    claims = list(_claims(table, results, seeds))
    lines = [f'### {table.title}', '', *markdown(columns, rows)]
    setting = list(_setting(table, results, seeds[0]))
    if setting:
        lines += ['', *setting]
    if claims:
        lines += ['', *(f'- {_sentence(claim)}' for claim in claims)]
    _write(name, lines, {'rows': record, 'claims': claims, 'setting': setting}, out)
    return claims


def _setting(table, results, seed):
    """Lines that say on which faces the rows are measured, and how long each trains."""
    measured = [
        (row, about) for row in table.rows if (about := results.about(row, seed))
    ]
    if not measured:
        return
    _, first = measured[0]
    yield (
        f'{first["faces"]:,} faces of {first["identities"]:,} held-out people, '
        f'{first["pairs"]:,} pairs. Judge: {Path(first["judge"]["name"]).name}, which '
        f'verifies {first["judge"]["hr_accuracy"]:.1%} of the originals.'
    )
    budgets: dict[tuple, list[str]] = {}
    for row, _ in measured:
        if steps := training_steps(row.run(seed).resolved, row.method):
            budgets.setdefault(steps, []).append(row.title)
    for steps, titles in budgets.items():
        stages = ' and then '.join(
            f'{n:,} {"step" if n == 1 else "steps"} of {size}' for n, size in steps
        )
        each = 'Each method' if len(budgets) == 1 else ', '.join(titles)
        yield f'{each}: {stages} faces.'


def _claims(table, results, seeds):
    by_title = {row.title: row for row in table.rows}
    for column, titles in table.claims:
        for worse, better in itertools.pairwise(titles):
            found = results.compare(by_title[worse], by_title[better], column, seeds)
            if found is not None:
                about = {'column': column, 'better': better, 'worse': worse}
                verdict = {'verdict': found.verdict}
                yield about | dataclasses.asdict(found) | verdict


def write_claims(path: Path, claims: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Writes the verdicts on the paper's claims, for all tables on one page.

    `claims` has what `write_table` returned by the title of the table.
    """
    columns = ('measure', 'difference', 'seeds', 'verdict')
    rows = [
        (
            f'{title.partition(":")[0]}: {claim["better"]} above {claim["worse"]}',
            [
                _TITLES[claim['column']],
                f'{claim["difference"]:+.4f} ± {claim["standard_error"]:.4f}',
                str(claim['seeds']),
                claim['verdict'],
            ],
        )
        for title, of_table in claims.items()
        for claim in of_table
    ]
    lines = ['### The claims of the paper', '', *markdown(columns, rows)]
    results_file.write_whole(path, ('\n'.join(lines) + '\n').encode())
    print(f'Written: {path}', flush=True)


def _sentence(claim):
    seeds = f'{claim["seeds"]} seeds' if claim['seeds'] > 1 else 'one seed'
    return (
        f'{_TITLES[claim["column"]]}, {claim["better"]} above {claim["worse"]}: '
        f'**{claim["verdict"]}** ({claim["difference"]:+.4f} ± '
        f'{claim["standard_error"]:.4f}, {seeds})'
    )


def write_table_6(
    name: str, results: Results, runs: Runs, seed: int, out: Path
) -> None:
    """Writes our verification accuracy and those of Table 6's systems.

    Where no fresh CNNR is trained on the faces of SICNN, the one that domain-integrated
    training leaves takes its place: it has learned from SR and HR.
    """
    sicnn = runs.sicnn(seed)
    found = {
        'CNNR, originals (ours)': ('96×112', results.recognition(sicnn)),
        'SICNN + CNNR (ours)': (
            '12×14',
            results.recognition(runs.recognisability(sicnn, 'sicnn', seed))
            if runs.fresh_recognisers
            else results.recognition(sicnn, 'domain_integrated', 'sicnn'),
        ),
    }
    rows, ours = [], {}
    for title, (size, right) in found.items():
        ours[title] = None if right is None else float(right.mean())
        rows.append((title, [size, _number('recognisability', ours[title]), '', '']))
    for title, (size, *accuracies) in published.SYSTEMS.items():
        shown = [_number('recognisability', accuracy) for accuracy in accuracies]
        rows.append((title, [size, '', *shown]))
    columns = ['input', 'held-out pairs of this data set', 'LFW', 'YTF']
    lines = ['### Table 6: verification', '', *markdown(columns, rows)]
    _write(name, lines, {'ours': ours, 'published': published.SYSTEMS}, out)


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
    # Bicubic interpolation is the same with any seed.
    if np.ptp(values):
        text += f' ± {_number(column, values.std(ddof=1))}'
    return text


def _number(column, value):
    if value is None:
        return ''
    form = '{:.1%}' if column == 'recognisability' else MEASURES[column][1]
    return form.format(value)


def markdown(
    columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]
) -> Iterator[str]:
    """The lines of a table, from the title and cells of each row."""
    yield '| | ' + ' | '.join(columns) + ' |'
    yield '| --- |' + ' ---: |' * len(columns)
    for title, cells in rows:
        yield f'| {title} | ' + ' | '.join(cells) + ' |'
