"""SICNN and its rivals, with one thing at a time changed from the paper.

    python -m benchmarks.studies.variations --table=beyond
    python -m benchmarks.studies.variations --table=remedies,rivals --dry_run

`beyond` goes beyond the paper: CosFace, ArcFace, features that are not normalised and
so on. `remedies` looks for changes that put domain-integrated training above approach
II where it is below, and `rivals` for changes that put SICNN above the compared
methods. The command shares the cache and the other flags of `sicnn_jax.reproduce`, and
writes its tables in the same way, under their names.
"""

import argparse
import dataclasses
import functools
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sicnn_jax.evaluation.methods import LEARNED, TITLES
from sicnn_jax.reproduction.experiments import Cache, Run, train_missing
from sicnn_jax.reproduction.flags import add_flags, exit_status, parse, several
from sicnn_jax.reproduction.results import Results
from sicnn_jax.reproduction.runs import BEFORE, COMPARED, Runs
from sicnn_jax.reproduction.tables import (
    SIMILARITIES,
    Row,
    Table,
    check_rows,
    chosen,
    needed,
    tables,
)
from sicnn_jax.reproduction.write_tables import write_table

_MEASURED = ('psnr', *SIMILARITIES, 'verification_accuracy')


@dataclasses.dataclass(frozen=True)
class Variation:
    """A third stage with something changed.

    Attributes:
      title: the title of its row.
      fields: (field, value) to set.
      factors: (field, factor) to multiply by.
      given: stages that it does not change.
      config: name of the config that has the stage.
      variant: variant of the config, in addition to the scale's.
      stage: name of the stage.
      method: the evaluation's name for the stage.
      control: whether the run also trains by L_SR only (α = 0).
    """

    title: str
    fields: tuple[tuple[str, Any], ...] = ()
    factors: tuple[tuple[str, float], ...] = ()
    given: tuple[str, ...] = BEFORE
    config: str = 'di'
    variant: str = ''
    stage: str = 'domain_integrated'
    method: str = 'sicnn'
    control: bool = False


def _recognition_loss(name, title):
    """A loss other than A-Softmax: from the start, and in the third stage only."""
    fields = (('recognition_loss.name', name),)
    return {
        name: Variation(title, fields, given=('hallucination',)),
        f'{name}_third': Variation(f'{title}, CNNR begins by A-Softmax', fields),
    }


_BEYOND = {
    **_recognition_loss('cosface', 'CosFace'),
    **_recognition_loss('arcface', 'ArcFace'),
    'feature_distance': Variation(
        'features not normalised',
        (('domain_integrated.identity_loss', 'feature_distance'),),
    ),
    'two_programs': Variation(
        'two updates, each by itself', (('domain_integrated.fused', False),)
    ),
    'misaligned': Variation(
        'faces not aligned', (('data.misalignment', 0.5),), given=(), control=True
    ),
}


# The factor by which longer stages are longer.
_LONGER = 4


def _longer(stage, networks):
    """Factors for the length of a stage and the schedules of its optimisers."""
    schedules = (
        f'{stage}.optimizer.{network}.{field}'
        for network in networks
        for field in ('boundaries', 'warmup_steps')
    )
    return tuple((field, _LONGER) for field in (f'{stage}.steps', *schedules))


def _approach_ii(title, factors):
    return Variation(
        title,
        factors=factors,
        config='approaches',
        stage='approach_ii',
        method='approach_ii',
    )


def _rate_of_cnnr(title, factor):
    return Variation(
        title,
        factors=tuple(
            (f'domain_integrated.optimizer.{network}.learning_rate', factor)
            for network in ('cnnr', 'class_weights')
        ),
    )


# Changes that might put domain-integrated training above II.
_REMEDIES = {
    'ii_longer': _approach_ii(
        'II, four times as long', _longer('approach_ii', ('cnnh',))
    ),
    'longer': Variation(
        'domain-integrated, four times as long',
        factors=_longer('domain_integrated', ('cnnr', 'class_weights', 'cnnh')),
    ),
    'slower_cnnr': _rate_of_cnnr(
        'domain-integrated, CNNR at a quarter of its rate', 1 / 4
    ),
    'faster_cnnr': _rate_of_cnnr('domain-integrated, CNNR at four times its rate', 4),
    'ii_weaker': _approach_ii('II, a quarter of α', (('approach_ii.alpha', 1 / 4),)),
}
# More of them, if CNNR learned from a teacher and not from names.
_OF_A_TEACHER = {
    'much_slower_cnnr': _rate_of_cnnr(
        'domain-integrated, CNNR at a 16th of its rate', 1 / 16
    ),
    'fresh_weights': Variation(
        'domain-integrated, class weights from nothing',
        (('domain_integrated.init.class_weights', ''),),
    ),
    'by_teacher': Variation(
        'domain-integrated, by the teacher and not by names',
        stage='taught_integrated',
        method='taught_integrated',
    ),
}


def _all_longer(title, networks, **of):
    """Longer training of the hallucination network in both its stages, same CNNR."""
    longer = Variation(title, given=('recognition',), **of)
    factors = (*_longer('hallucination', networks), *_longer(longer.stage, networks))
    return dataclasses.replace(longer, factors=factors)


def _compared_longer(method, networks):
    config, variant = COMPARED[method]
    return _all_longer(
        f'{TITLES[method]}, four times as long',
        networks,
        config=config,
        variant=variant,
        stage=LEARNED[method].stage,
        method=method,
    )


# Changes that might put SICNN above the compared methods, and LapSRN above Ma et al.
_RIVALS = {
    'sicnn_longer': _all_longer('SICNN, four times as long', ('cnnh',)),
    'lapsrn_longer': _compared_longer('lapsrn', ('cnnh',)),
    'ur_dgn_perceptual_longer': _compared_longer(
        'ur_dgn_perceptual', ('cnnh', 'discriminator')
    ),
    'sicnn_wider': Variation(
        'SICNN, CNNH twice as wide',
        factors=tuple(
            (f'cnnh.{field}', 2) for field in ('width', 'growth', 'deconv_width')
        ),
        given=('recognition',),
    ),
}


def varied(runs: Runs, name: str, variation: Variation, seed: int) -> Run:
    """The run of a variation, including stages before the third that change."""
    own = (*(('sr_only',) if variation.control else ()), variation.stage)
    run = functools.partial(
        runs.third,
        *(name, variation.config, seed, own),
        given=variation.given,
        variant=variation.variant,
    )
    multiplied = (
        (field, _times(run().resolved, field, factor))
        for field, factor in variation.factors
    )
    return run(*variation.fields, *multiplied)


def _times(config, field, factor):
    """A number of a config, or several, multiplied; integers stay integers."""
    value = functools.reduce(operator.getitem, field.split('.'), config)
    if isinstance(value, tuple):
        return tuple(type(each)(each * factor) for each in value)
    return type(value)(value * factor)


def beyond(runs: Runs) -> Table:
    """Beyond the paper: SICNN with one thing at a time changed.

    Only procedural faces can be misaligned.
    """
    variations = dict(_BEYOND)
    config = runs.sicnn(0).resolved
    if config.data.source == 'records':
        del variations['misaligned']
    if not config.domain_integrated.fused:
        # Then this variation is SICNN itself.
        del variations['two_programs']
    pairs = (
        ('features not normalised', 'SICNN'),
        *((_control(v.title), v.title) for v in variations.values() if v.control),
    )
    return Table(
        'Beyond the paper: SICNN, with one thing another way',
        (Row('SICNN', 'sicnn', runs.sicnn), *_varied(runs, variations)),
        _MEASURED,
        tuple((column, pair) for column in SIMILARITIES for pair in pairs),
    )


def remedies(runs: Runs) -> Table:
    """Approach II and domain-integrated training, and changes that might reorder them.

    The paper has the latter above (Table 3).
    """
    two, integrated = 'II', 'domain-integrated'
    variations = _REMEDIES | (_OF_A_TEACHER if runs.from_one_start else {})
    titles = {name: variation.title for name, variation in variations.items()}
    pairs = (
        (two, integrated),
        (titles['ii_longer'], titles['longer']),
        (two, titles['slower_cnnr']),
        (two, titles['faster_cnnr']),
        (titles['ii_weaker'], integrated),
        *((two, titles[name]) for name in _OF_A_TEACHER if name in titles),
    )
    return Table(
        'Approach II and domain-integrated training: remedies',
        (
            Row(two, 'approach_ii', runs.approaches),
            Row(integrated, 'sicnn', runs.sicnn),
            *_varied(runs, variations),
        ),
        _MEASURED,
        tuple((column, pair) for column in SIMILARITIES for pair in pairs),
    )


def rivals(runs: Runs) -> Table:
    """SICNN and compared methods, and changes that might restore the paper's order."""
    rows = {row.title: row for row in tables(runs)[5].rows}
    titles = {name: variation.title for name, variation in _RIVALS.items()}
    longer, wider = titles['sicnn_longer'], titles['sicnn_wider']
    lapsrn = titles['lapsrn_longer']
    return Table(
        'SICNN and the compared methods: remedies',
        (
            *(rows[title] for title in ('Ma et al.', 'LapSRN', 'UR-DGN*', 'SICNN')),
            *_varied(runs, _RIVALS),
        ),
        _MEASURED,
        (
            *(('psnr', pair) for pair in ((lapsrn, longer), ('LapSRN', wider))),
            *(
                (column, pair)
                for column in SIMILARITIES
                for pair in (
                    ('Ma et al.', lapsrn),
                    (titles['ur_dgn_perceptual_longer'], longer),
                    ('UR-DGN*', wider),
                )
            ),
        ),
    )


def _varied(runs, variations):
    """Rows of variations, each after its control if it has one."""
    rows = []
    for name, variation in variations.items():
        run = functools.partial(varied, runs, name, variation)
        if variation.control:
            rows.append(Row(_control(variation.title), 'sr_only', run))
        rows.append(Row(variation.title, variation.method, run))
    return tuple(rows)


def _control(title):
    return f'{title}, {TITLES["sr_only"]}'


# By the name of the file.
TABLES: Mapping[str, Callable[[Runs], Table]] = {
    'beyond': beyond,
    'remedies': remedies,
    'rivals': rivals,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--table',
        type=several(str, TABLES),
        default=list(TABLES),
        metavar='NAME,NAME',
        help=f'{", ".join(TABLES)}; default: all',
    )
    add_flags(parser)
    options, overrides = parse(parser, arguments)
    return exit_status(lambda: _study(options, overrides))


def _study(options, overrides):
    runs = Runs(options.scale, overrides)
    cache = Cache(options.cache)
    wanted = {name: TABLES[name](runs) for name in options.table}
    check_rows(options.row, wanted.values())
    rows = [row for table in wanted.values() for row in chosen(table, options.row)]
    needs = needed(runs, rows, options.seeds, recognisability=False)
    train_missing(cache, needs, dry_run=options.dry_run)
    if options.dry_run:
        return
    results = Results(cache, runs)
    for name, table in wanted.items():
        write_table(runs.prefix + name, table, results, options.seeds, options.out)


if __name__ == '__main__':
    sys.exit(main())
