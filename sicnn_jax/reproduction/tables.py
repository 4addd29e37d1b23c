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
# Our column → the paper's, if it has another name.
_OF_THE_PAPER = {'recognisability': 'lfw'}
SIMILARITIES = ('identity_similarity', 'judge_similarity')
# Rows of Tables 4 and 5 that a claim compares.
_SEVERAL = ('bicubic', 'lapsrn', 'ur_dgn_perceptual', 'sicnn')


@dataclasses.dataclass(frozen=True)
class Row:
    """A method of a table.

    Attributes:
      title: as the paper calls it.
      method: its name in results.json.
      run: seed → run.
      several: whether it is trained with all seeds, not only with the first one.
      paper: column → the paper's value.
    """

    title: str
    method: str
    run: Callable[[int], Run]
    several: bool = False
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the paper: what it compares, by which measures, and its claims.

    Attributes:
      title: of the table.
      rows: the methods.
      columns: of results.json, and 'recognisability'.
      claims: (column, titles of rows with the best last) that the paper's text states.
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
    # The two ends of that chain show whether L_SI has any effect.
    claims = _by_similarity(rising, (rising[0], rising[-1]))
    return Table('Table 2: α', rows, ('psnr', *_of_people(runs)), claims)


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
    # III costs one more training of CNNR than II, so whether Algorithm 1 is worth its
    # cost is also asked of II alone.
    claims = _by_similarity(approaches, ('II', 'domain-integrated'))
    columns = ('psnr', *_of_people(runs))
    return Table('Table 3: training approaches', rows, columns, claims)


def _of_quality(runs):
    by_psnr = ('bicubic', 'Ma et al.', 'UR-DGN', 'UR-DGN*', 'LapSRN', 'SICNN')
    return Table('Table 4: quality', _methods(runs), _QUALITY, (('psnr', by_psnr),))


def _of_identity(runs):
    four_times = Row(
        'SICNN, 4×',
        'sicnn',
        runs.four_times,
        paper=_columns(published.FIGURES[4]['sicnn'], _IDENTITY),
    )
    by_similarity = ('bicubic', 'UR-DGN', 'Ma et al.', 'LapSRN', 'UR-DGN*', 'SICNN')
    # Sec. 4.7: SICNN is first; the first two are no better than bicubic, so that a tie
    # agrees, too.
    by_recognisability = (
        ('LapSRN', 'bicubic'),
        ('UR-DGN', 'bicubic'),
        ('bicubic', 'SICNN'),
        ('UR-DGN*', 'SICNN'),
        ('L_SR only', 'SICNN'),
    )
    claims = (
        *_by_similarity(by_similarity),
        *_by_similarity(('SICNN', 'SICNN, 4×')),
    )
    if runs.fresh_recognisers:
        claims += tuple(('recognisability', pair) for pair in by_recognisability)
    rows = (*_methods(runs), four_times)
    return Table('Table 5: identity', rows, _of_people(runs), claims)


def _of_people(runs):
    """The columns that say whether a face is still the person's."""
    fresh = ('recognisability',) if runs.fresh_recognisers else ()
    return (*SIMILARITIES, 'verification_accuracy', *fresh)


def _by_similarity(*orders):
    return tuple((column, titles) for column in SIMILARITIES for titles in orders)


def _methods(runs):
    """Bicubic, the methods of other authors, SICNN, and its control."""
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
    found: list[Run] = []
    for row in wanted:
        for seed in seeds_of(row, seeds):
            found.append(row.run(seed))
            if recognisability:
                found.append(recognised(runs, row, seed))
    return list(dict.fromkeys(found))


def seeds_of(row: Row, seeds: Sequence[int]) -> Sequence[int]:
    """The seeds that a row is trained with."""
    return seeds if row.several else seeds[:1]


def training_steps(config: ConfigDict, method: str) -> tuple[tuple[int, int], ...]:
    """(steps, faces per step) of each stage that a method's CNNH passes through.

    Methods have their names in results.json; bicubic has no stages.
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
    known = tables(runs)
    identity = {row.title: row for row in known[5].rows}
    compared = ('bicubic', 'Ma et al.', 'LapSRN', 'UR-DGN', 'UR-DGN*', 'SICNN')
    return {
        1: [identity['bicubic'], identity['SICNN']],
        3: [*known[3].rows],
        5: [*known[2].rows],
        6: [identity[title] for title in compared],
        7: [identity['SICNN, 4×']],
    }


def check_rows(titles: Iterable[str], asked: Iterable[Table]) -> None:
    """Raises ValueError for a title that is in none of the tables."""
    known = dict.fromkeys(row.title for table in asked for row in table.rows)
    for title in titles:
        if title not in known:
            raise ValueError(f'--row={title}: expected one of {", ".join(known)}.')


def chosen(table: Table, titles: Collection[str]) -> list[Row]:
    """The rows with these titles; all of them if there are none."""
    return [row for row in table.rows if not titles or row.title in titles]
