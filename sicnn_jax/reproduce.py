"""Makes the tables and figures of the paper, and trains the networks they need.

    python -m sicnn_jax.reproduce --table=2,3,4,5,6 --scale=demo
    python -m sicnn_jax.reproduce --figure=5 --scale=small \\
        --config.data.source=records --config.data.dir=/data/faces
    python -m sicnn_jax.reproduce --table=3 --scale=real --seeds=0,1,2 \\
        --config.data.dir=/data/faces \\
        --config.data.targets=/data/faces/targets-dlib.safetensors
    python -m sicnn_jax.reproduce --table=3 --dry_run

The command trains the missing runs in a cache, which tables and figures share, and
writes `tableN.md`, `tableN.json`, `figureN.png`, and in `claims.md` which claims of
these tables hold. `--scale=real` trains light networks on photographs and names its
files `real_tableN.md` and so on. The same command continues an interrupted call; once
all is trained, it trains nothing. `--config.FIELD=VALUE` sets the field in every run
that has it. Our values, means (± standard deviation) where a row has several `--seeds`,
stand next to the paper's.
"""

import sys
from collections.abc import Sequence

from sicnn_jax import command, paths
from sicnn_jax.reproduction import write_figures
from sicnn_jax.reproduction.experiments import Cache, train_missing
from sicnn_jax.reproduction.flags import add_flags, exit_status, parse, several
from sicnn_jax.reproduction.results import Results
from sicnn_jax.reproduction.runs import Runs
from sicnn_jax.reproduction.tables import check_rows, chosen, figures, needed, tables
from sicnn_jax.reproduction.write_tables import write_claims, write_table, write_table_6


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = command.parser('reproduce', __doc__)
    add = parser.add_argument
    for name, numbers in (('table', (2, 3, 4, 5, 6)), ('figure', (1, 3, 4, 5, 6, 7))):
        add(
            f'--{name}',
            type=several(int, numbers),
            default=[],
            metavar='N,N',
            help=f'{name}s to make, of {", ".join(map(str, numbers))}',
        )
    add(
        '--without_recognisability',
        action='store_true',
        help='train no fresh CNNR on what each method makes (Sec. 4.7)',
    )
    add(
        '--shown',
        type=command.path,
        metavar='FOLDER',
        help='aligned faces of 96×112 that the figures show; default: held-out ones',
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
    faces = write_figures.read_faces(options.shown) if options.shown else None
    check_rows(options.row, [wanted[each] for each in options.table if each in wanted])
    if not options.dry_run:
        paths.check_writable(out, 'give another --out=DIRECTORY')
    train_missing(cache, _needs(options, runs, wanted, shown), dry_run=options.dry_run)
    if options.dry_run:
        return
    results, claims = Results(cache, runs), {}
    for number in options.table:
        name = f'{runs.prefix}table{number}'
        if number == 6:
            write_table_6(name, results, runs, seed, out)
        else:
            table = wanted[number]
            claims[table.title] = write_table(name, table, results, options.seeds, out)
    if claims:
        write_claims(out / f'{runs.prefix}claims.md', claims)
    for number in options.figure:
        path = out / f'{runs.prefix}figure{number}.png'
        if number == 4:
            write_figures.write_figure_4(path, runs, cache, seed)
        else:
            write_figures.write_figure(path, shown[number], cache, seed, faces)


def _needs(options, runs, wanted, shown):
    seed = options.seeds[0]
    sicnn, needs = runs.sicnn(seed), []
    for number in options.table:
        if number == 6:
            needs.append(sicnn)
            if runs.fresh_recognisers:
                needs.append(runs.recognisability(sicnn, 'sicnn', seed))
            continue
        table = wanted[number]
        fresh = (
            'recognisability' in table.columns and not options.without_recognisability
        )
        needs += needed(
            runs, chosen(table, options.row), options.seeds, recognisability=fresh
        )
    for number in options.figure:
        if number == 4:
            needs += [sicnn, runs.approaches(seed)]
        else:
            needs += [row.run(seed) for row in shown[number]]
    return needs


if __name__ == '__main__':
    sys.exit(main())
