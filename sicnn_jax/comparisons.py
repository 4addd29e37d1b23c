"""What the paper's tables and figures compare, as runs of an experiment cache."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sicnn_jax.config import ConfigError
from sicnn_jax.evaluation import published
from sicnn_jax.evaluation.methods import LEARNED, TITLES
from sicnn_jax.experiments import Run

SCALES = {'demo': ':demo', 'small': ':small', 'paper': ''}
# What the paper's α is multiplied by. At demo scale α = 8 moves nothing, and 256 is
# what configs/di.py:demo has in its place (docs/results.md).
_ALPHA_FACTOR = {'demo': 32.0, 'small': 1.0, 'paper': 1.0}
# Methods of others → config and variant.
COMPARED = {
    'ma': ('position_patch', ''),
    'lapsrn': ('lapsrn', ''),
    'ur_dgn': ('ur_dgn', ''),
    'ur_dgn_perceptual': ('ur_dgn', 'perceptual'),
}
# Our column → the paper's.
PAPER_COLUMNS = {
    'psnr': 'psnr',
    'ssim': 'ssim',
    'identity_similarity': 'identity_similarity',
    'recognisability': 'lfw',
}
# Stages before the third.
BEFORE = ('recognition', 'hallucination')
_IDENTITY = ('identity_similarity', 'recognisability')
SIMILARITIES = ('identity_similarity', 'judge_similarity')


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


class Runs:
    """The runs of a scale; `overrides` hold for all of them that have such a field.

    Raises:
      ConfigError: configs/di.py has no such field, or it is of another type; or it is
        the seed, of which a row may have several.
    """

    def __init__(self, scale: str, overrides: Sequence[tuple[str, Any]] = ()):
        self._variant = SCALES[scale]
        self.alpha_factor = _ALPHA_FACTOR[scale]
        self._overrides = tuple(overrides)
        if 'seed' in dict(self._overrides):
            raise ConfigError('config.seed is not for all runs: give --seeds=N,N.')
        _ = self.sicnn(0).resolved

    def sicnn(self, seed: int) -> Run:
        """All stages of configs/di.py, which the others take the first ones of."""
        return self._run('sicnn', 'di', seed, ())

    def alpha(self, alpha: float, seed: int) -> Run:
        """Domain-integrated training with the paper's α, or that times a factor."""
        sicnn = self.sicnn(seed)
        value = alpha * self.alpha_factor
        if value == sicnn.resolved.domain_integrated.alpha:
            return sicnn
        return self.third(
            f'alpha{alpha:g}',
            'di',
            seed,
            ('domain_integrated',),
            ('domain_integrated.alpha', value),
        )

    def approach_i(self, seed: int) -> Run:
        """Approach I, which starts from nothing and takes the longest."""
        return self.third('approach_i', 'approaches', seed, ('approach_i',))

    def approaches(self, seed: int) -> Run:
        """Approaches II and III."""
        own = ('approach_ii', 'mixed', 'approach_iii')
        return self.third('approaches', 'approaches', seed, own)

    def compared(self, method: str, seed: int) -> Run:
        """A method of other authors, with CNNR of the same seed."""
        config, variant = COMPARED[method]
        return self._run(method, config, seed, ('recognition',), variant=variant)

    def four_times(self, seed: int) -> Run:
        """SICNN for 24×28 pixels (Sec. 4.5)."""
        return self._run('scale4', 'di', seed, ('recognition',), ('scale', 4))

    def recognisability(self, run: Run | None, method: str, seed: int) -> Run:
        """A fresh CNNR trained on faces that a method super-resolved."""
        faces = (run, LEARNED[method].stage) if run else (None, '')
        return dataclasses.replace(
            self._run(
                f'recognise-{method}' + (f'-of-{run.name}' if run else ''),
                'di',
                seed,
                (),
                ('stages', ('recognition',)),
                ('scale', run.resolved.scale if run else 8),
            ),
            faces=faces,
        )

    def third(
        self,
        name: str,
        config: str,
        seed: int,
        own: tuple[str, ...],
        *overrides: tuple[str, Any],
        given: tuple[str, ...] = BEFORE,
        variant: str = '',
    ) -> Run:
        """A run whose own stages come after the first two.

        Args:
          name: of the run.
          config: of configs/, without `.py`.
          seed: of the run.
          own: the stages after the first two.
          *overrides: (field, value) in the order in which they are set.
          given: stages that SICNN of the same seed gives.
          variant: of the config, beside the scale's.
        """
        stages = ('stages', (*BEFORE, *own))
        return self._run(name, config, seed, given, stages, *overrides, variant=variant)

    def _run(self, name, config, seed, given, *overrides, variant=''):
        whole = '_'.join(filter(None, (self._variant.lstrip(':'), variant)))
        file = f'configs/{config}.py' + (f':{whole}' if whole else '')
        shared = self._overrides
        if config != 'di':
            fields = Run('', file).resolved
            shared = tuple(each for each in shared if _has_field(fields, each[0]))
        return Run(
            f'{name}-seed{seed}',
            file,
            (('seed', seed), *shared, *overrides),
            tuple((stage, self.sicnn(seed)) for stage in given),
        )


def _has_field(config, path):
    for field in path.split('.'):
        if field not in config:
            return False
        config = config[field]
    return True


def tables(runs: Runs) -> dict[int, Table]:
    """Tables 2 to 5 of the paper, with its figures."""
    eight, four_times = published.FIGURES[8], published.FIGURES[4]
    table_2 = tuple(
        Row(
            f'α = {alpha}',
            'sicnn' if alpha else 'sr_only',
            functools.partial(runs.alpha, alpha) if alpha else runs.sicnn,
            several=alpha in (0, 8, 32),
            paper=_columns(figures, _IDENTITY),
        )
        for alpha, figures in published.ALPHAS.items()
    )
    table_3 = tuple(
        Row(
            title,
            method,
            run,
            several=title != 'I',
            paper=_columns(eight[method], _IDENTITY),
        )
        for title, method, run in (
            ('I', 'approach_i', runs.approach_i),
            ('II', 'approach_ii', runs.approaches),
            ('III', 'approach_iii', runs.approaches),
            ('domain-integrated', 'sicnn', runs.sicnn),
        )
    )
    methods = tuple(
        Row(
            TITLES[method],
            method,
            runs.sicnn
            if method in ('bicubic', 'sicnn')
            else functools.partial(runs.compared, method),
            several=method in ('bicubic', 'sicnn'),
            paper=_columns(eight[method], PAPER_COLUMNS),
        )
        for method in ('bicubic', *COMPARED, 'sicnn')
    )
    control = Row(TITLES['sr_only'], 'sr_only', runs.sicnn, several=True)
    four = Row(
        'SICNN, 4×',
        'sicnn',
        runs.four_times,
        paper=_columns(four_times['sicnn'], PAPER_COLUMNS),
    )
    rising = tuple(row.title for row in table_2)
    approaches = tuple(row.title for row in table_3)
    by_similarity = ('bicubic', 'UR-DGN', 'Ma et al.', 'LapSRN', 'UR-DGN*', 'SICNN')
    by_psnr = ('bicubic', 'Ma et al.', 'UR-DGN', 'UR-DGN*', 'LapSRN', 'SICNN')
    everything = (*SIMILARITIES, 'verification_accuracy', 'recognisability')
    # Sec. 4.7: SICNN first, and these two no better than bicubic, so a tie agrees, too.
    by_recognisability = (
        ('LapSRN', 'bicubic'),
        ('UR-DGN', 'bicubic'),
        ('bicubic', 'SICNN'),
        ('UR-DGN*', 'SICNN'),
        ('L_SR only', 'SICNN'),
    )
    return {
        2: Table(
            'Table 2: α',
            table_2,
            ('psnr', *everything),
            tuple((column, rising[:4]) for column in SIMILARITIES),
        ),
        3: Table(
            'Table 3: training approaches',
            table_3,
            ('psnr', *everything),
            tuple((column, approaches) for column in SIMILARITIES),
        ),
        4: Table(
            'Table 4: quality',
            (*methods, control),
            ('psnr', 'ssim'),
            (('psnr', by_psnr),),
        ),
        5: Table(
            'Table 5: identity',
            (*methods, control, four),
            everything,
            (
                *((column, by_similarity) for column in SIMILARITIES),
                *((column, ('SICNN', 'SICNN, 4×')) for column in SIMILARITIES),
                *(('recognisability', pair) for pair in by_recognisability),
            ),
        ),
    }


def _columns(figures, columns):
    """Figures of the paper by our columns."""
    return {
        column: figures[PAPER_COLUMNS[column]]
        for column in columns
        if PAPER_COLUMNS[column] in figures
    }


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
