"""What the paper's tables and figures compare, as runs of an experiment cache."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ml_collections import ConfigDict

from sicnn_jax.evaluation import published
from sicnn_jax.evaluation.methods import TITLES, compared_stages
from sicnn_jax.reproduction.experiments import Run
from sicnn_jax.reproduction.runs import COMPARED, Runs

_IDENTITY = ('identity_similarity', 'recognisability')
_QUALITY = ('psnr', 'ssim')
# Our column → the paper's, where it is another.
_OF_THE_PAPER = {'recognisability': 'lfw'}
SIMILARITIES = ('identity_similarity', 'judge_similarity')
# Rows of Tables 4 and 5 that a claim compares.
_SEVERAL = ('bicubic', 'lapsrn', 'ur_dgn_perceptual', 'sicnn')
_EVERYTHING = (*SIMILARITIES, 'verification_accuracy', 'recognisability')


@dataclasses.dataclass(frozen=True)
class Row:
    """A method of a table.

    Attributes:
      title: as the paper calls it.
      method: name in results.json.
      run: of a seed.
      several: of all seeds, not of the first one alone.
      paper: column → what the paper has.
    """

    title: str
    method: str
    run: Callable[[int], Run]
    several: bool = False
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the paper: what it compares, by what, and what it claims.

    Attributes:
      title: of the table.
      rows: the methods.
      columns: of results.json, and 'recognisability'.
      claims: (column, titles of rows, the best last) that the text states.
    """

    title: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    claims: tuple[tuple[str, tuple[str, ...]], ...] = ()


def tables(runs: Runs) -> dict[int, Table]:
    """Tables 2 to 5 of the paper, with its figures."""
    return {
        2: _of_alpha(runs),
        3: _of_approaches(runs),
        4: _of_quality(runs),
        5: _of_identity(runs),
    }


def _of_alpha(runs):
    rows = tuple(
        Row(
            f'α = {alpha}',
            'sicnn' if alpha else 'sr_only',
            functools.partial(runs.alpha, alpha) if alpha else runs.sicnn,
            several=alpha in (0, 8, 32),
            paper=_columns(figures, _IDENTITY),
        )
        for alpha, figures in published.ALPHAS.items()
    )
    rising = tuple(row.title for row in rows[:4])
    # The two ends of that chain say what L_SI does at all.
    claims = tuple(
        (column, titles)
        for column in SIMILARITIES
        for titles in (rising, (rising[0], rising[-1]))
    )
    return Table('Table 2: α', rows, ('psnr', *_EVERYTHING), claims)


def _of_approaches(runs):
    rows = tuple(
        Row(
            title,
            method,
            run,
            several=runs.from_one_start or title != 'I',
            paper=_columns(published.FIGURES[8][method], _IDENTITY),
        )
        for title, method, run in (
            ('I', 'approach_i', runs.approach_i),
            ('II', 'approach_ii', runs.approaches),
            ('III', 'approach_iii', runs.approaches),
            ('domain-integrated', 'sicnn', runs.sicnn),
        )
    )
    approaches = tuple(row.title for row in rows)
    # III costs a training of CNNR more than II, so whether Algorithm 1 is worth its
    # trouble is asked beside II, too.
    claims = tuple(
        (column, titles)
        for column in SIMILARITIES
        for titles in (approaches, ('II', 'domain-integrated'))
    )
    title = 'Table 3: training approaches'
    return Table(title, rows, ('psnr', *_EVERYTHING), claims)


def _of_quality(runs):
    by_psnr = ('bicubic', 'Ma et al.', 'UR-DGN', 'UR-DGN*', 'LapSRN', 'SICNN')
    return Table(
        'Table 4: quality',
        _methods(runs),
        _QUALITY,
        (('psnr', by_psnr),),
    )


def _of_identity(runs):
    four_times = Row(
        'SICNN, 4×',
        'sicnn',
        runs.four_times,
        paper=_columns(published.FIGURES[4]['sicnn'], _IDENTITY),
    )
    by_similarity = ('bicubic', 'UR-DGN', 'Ma et al.', 'LapSRN', 'UR-DGN*', 'SICNN')
    # Sec. 4.7: SICNN first, and these two no better than bicubic, so a tie agrees, too.
    by_recognisability = (
        ('LapSRN', 'bicubic'),
        ('UR-DGN', 'bicubic'),
        ('bicubic', 'SICNN'),
        ('UR-DGN*', 'SICNN'),
        ('L_SR only', 'SICNN'),
    )
    claims = (
        *((column, by_similarity) for column in SIMILARITIES),
        *((column, ('SICNN', 'SICNN, 4×')) for column in SIMILARITIES),
        *(('recognisability', pair) for pair in by_recognisability),
    )
    rows = (*_methods(runs), four_times)
    return Table('Table 5: identity', rows, _EVERYTHING, claims)


def _methods(runs):
    """Bicubic, the methods of others and SICNN, with its control after it."""
    rows = tuple(
        Row(
            TITLES[method],
            method,
            runs.sicnn
            if method in ('bicubic', 'sicnn')
            else functools.partial(runs.compared, method),
            several=method in _SEVERAL,
            paper=_columns(published.FIGURES[8][method], (*_QUALITY, *_IDENTITY)),
        )
        for method in ('bicubic', *COMPARED, 'sicnn')
    )
    control = Row(TITLES['sr_only'], 'sr_only', runs.sicnn, several=True)
    return (*rows, control)


def _columns(figures, columns):
    names = {column: _OF_THE_PAPER.get(column, column) for column in columns}
    return {column: figures[name] for column, name in names.items() if name in figures}


def needed(
    runs: Runs, wanted: Iterable[Row], seeds: Sequence[int], *, recognisability: bool
) -> list[Run]:
    """The runs of some rows."""
    found: dict[Run, None] = {}
    for row in wanted:
        for seed in seeds_of(row, seeds):
            run = row.run(seed)
            found.setdefault(run)
            if recognisability:
                found.setdefault(recognised(runs, row, seed))
    return list(found)


def seeds_of(row: Row, seeds: Sequence[int]) -> Sequence[int]:
    """Those that a row is trained with."""
    return seeds if row.several else seeds[:1]


def training_steps(config: ConfigDict, method: str) -> tuple[tuple[int, int], ...]:
    """(steps, faces a step) of each stage that CNNH of a method passes through.

    Args:
      config: of the method's run.
      method: as in results.json; bicubic has no stages.
    """
    stages = []
    name = compared_stages(config).get(method)
    while name in config:
        stages.append((config[name].steps, config[name].batch_size))
        name = config[name].init.get('cnnh')
    return tuple(reversed(stages))


def recognised(runs: Runs, row: Row, seed: int) -> Run:
    """The run that measures the recognisability of a row."""
    run = None if row.method == 'bicubic' else row.run(seed)
    return runs.recognisability(run, row.method, seed)


def figures(runs: Runs) -> dict[int, list[Row]]:
    """The columns of the figures that show faces."""
    by_title = {
        (number, row.title): row
        for number, table in tables(runs).items()
        for row in table.rows
    }

    def chosen(number, *titles):
        return [by_title[number, title] for title in titles]

    return {
        1: chosen(5, 'bicubic', 'SICNN'),
        3: chosen(3, 'I', 'II', 'III', 'domain-integrated'),
        5: chosen(2, *(f'α = {alpha}' for alpha in published.ALPHAS)),
        6: chosen(5, 'bicubic', 'Ma et al.', 'LapSRN', 'UR-DGN', 'UR-DGN*', 'SICNN'),
        7: chosen(5, 'SICNN, 4×'),
    }


def check_rows(titles: Iterable[str], asked: Iterable[Table]) -> None:
    """Raises ValueError for a title that no table has a row of."""
    known = {row.title: None for table in asked for row in table.rows}
    for title in titles:
        if title not in known:
            raise ValueError(f'--row={title}: expected one of {", ".join(known)}.')


def chosen(table: Table, titles: Collection[str]) -> list[Row]:
    """The rows with these titles; all of them if there are none."""
    return [row for row in table.rows if not titles or row.title in titles]
