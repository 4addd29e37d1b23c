"""Who lowers L_SI in training: CNNH, as intended, or the CNNR that measures it?

    python -m benchmarks.studies.falls --scale=real --seeds=0,1,2 \\
        --config.data.dir=DATA --config.data.targets=DATA/targets-dlib.safetensors

If the last stage also trains CNNR, L_SI may fall because CNNH makes faces that are more
like the person, or because CNNR becomes worse at telling them apart. The finished rows
of Table 3 in the cache of `sicnn_jax.reproduce` have both networks from before and
after that stage, so L_SI of held-out faces can be measured with all four combinations.
A network's part in the fall is the change that it makes, averaged over the other
network before and after the stage (its Shapley value). The parts sum to the fall. Rows
in the record are not measured again.

The record also says how training CNNR changes what L_SI asks of CNNH. At the faces that
CNNH makes before the stage, it compares the gradients of L_SI with respect to these
faces through CNNR after the stage and before it: the ratio of their lengths and the
cosine between them.
"""

import argparse
import functools
import itertools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.measuring import earlier_record, markdown, write_record
from sicnn_jax import checkpoint, images, inference, models
from sicnn_jax.batches import in_batches
from sicnn_jax.losses import super_identity_loss
from sicnn_jax.reproduction.experiments import Cache
from sicnn_jax.reproduction.flags import add_flags, exit_status, parse
from sicnn_jax.reproduction.runs import Runs
from sicnn_jax.reproduction.tables import Row, tables

# Row → the last stages of its CNNR and of its CNNH.
ROWS = {
    'I': ('approach_i', 'approach_i'),
    'III': ('mixed', 'approach_iii'),
    'domain-integrated': ('domain_integrated', 'domain_integrated'),
}


def measure(
    hr: np.ndarray, lr: np.ndarray, cnnr: dict[str, Any], cnnh: dict[str, Any]
) -> dict[str, float]:
    """L_SI before and after the stage, and each network's part in the change.

    Args:
      hr, lr: held-out faces, uint8 [n, 112, 96, 3] and [n, h, w, 3].
      cnnr, cnnh: 'before' and 'after' → module and parameters.

    Returns:
      L_SI 'before' and 'after'; the parts of 'cnnr' and 'cnnh' in the difference;
      'gradient', its length after relative to before; 'cosine' between the gradients.
    """
    faces = {when: inference.super_resolve(*net, lr) for when, net in cnnh.items()}
    found = {
        (r, h): float(
            super_identity_loss(
                inference.extract_features(*cnnr[r], faces[h]),
                inference.extract_features(*cnnr[r], hr),
            )
        )
        for r, h in itertools.product(cnnr, cnnh)
    }
    first, last = found['before', 'before'], found['after', 'after']
    half, other = found['after', 'before'], found['before', 'after']
    gradients = {
        when: _gradients(*network, faces['before'], hr)
        for when, network in cnnr.items()
    }
    lengths = {k: np.linalg.norm(v, axis=1) for k, v in gradients.items()}
    products = np.sum(gradients['before'] * gradients['after'], axis=1)
    return {
        'before': first,
        'after': last,
        'cnnr': ((half - first) + (last - other)) / 2,
        'cnnh': ((other - first) + (last - half)) / 2,
        'gradient': float(np.mean(lengths['after'] / lengths['before'])),
        'cosine': float(np.mean(products / (lengths['after'] * lengths['before']))),
    }


def _gradients(cnnr, params, sr, hr):
    """Gradient of each face's L_SI with respect to its pixels, float32 [n, values]."""
    gradient = functools.partial(_gradient, cnnr, params)
    return in_batches(gradient, np.stack([sr, hr], axis=1)).reshape(len(hr), -1)


@functools.partial(jax.jit, static_argnums=0)
def _gradient(cnnr, params, pairs):
    sr, hr = (images.to_float(pairs[:, place]) for place in range(2))

    def loss(sr):
        features = (cnnr.apply({'params': params}, faces) for faces in (sr, hr))
        # The loss is a mean, but each face gets the gradient of its own loss.
        return len(sr) * super_identity_loss(*features)

    return jax.grad(loss)(sr)


def measure_row(
    runs: Runs, cache: Cache, row: Row, seed: int, faces: int
) -> dict[str, float] | None:
    """`measure` of a row of Table 3; None if it is not trained yet."""
    run, sicnn = row.run(seed), runs.sicnn(seed)
    cnnr_stage, cnnh_stage = (cache.directory(run) / name for name in ROWS[row.title])
    recognition = dict(run.given).get('recognition', sicnn)
    before = (
        cache.directory(recognition) / 'recognition',
        cache.directory(sicnn) / 'hallucination',
    )
    if not all(map(checkpoint.has_networks, (cnnr_stage, cnnh_stage, *before))):
        return None
    hr, _ = cache.test_faces(sicnn)
    hr = hr[:: max(1, len(hr) // faces)][:faces]
    config = sicnn.resolved
    lr = inference.degrade_faces(hr, scale=config.scale, kind=config.degradation)
    cnnr = {'before': _load('cnnr', before[0]), 'after': _load('cnnr', cnnr_stage)}
    cnnh = {'before': _load('cnnh', before[1]), 'after': _load('cnnh', cnnh_stage)}
    return measure(hr, lr, cnnr, cnnh)


def _load(network, directory: Path):
    params, record = checkpoint.load_networks(directory, [network])
    make = {'cnnr': models.cnnr_from, 'cnnh': models.cnnh_from}[network]
    return make(record), params[network]


def table(record: dict[str, Any]) -> str:
    """The results of each row, by seed."""
    columns = ('L_SI before', 'after', 'by CNNR', 'by CNNH', 'gradient', 'cosine')
    rows = [
        (f'{title} (seed {seed})', [f'{value:.3f}' for value in found.values()])
        for title, seeds in record['rows'].items()
        for seed, found in sorted(seeds.items())
    ]
    return markdown(columns, rows, first='held-out faces')


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--faces', type=int, default=512, help='held-out faces')
    add_flags(parser)
    options, overrides = parse(parser, arguments)
    return exit_status(lambda: _study(options, overrides))


def _study(options, overrides):
    runs, cache = Runs(options.scale, overrides), Cache(options.cache)
    name = f'falls_{options.scale}'
    record = earlier_record(name) or {}
    if record.get('faces') != options.faces:
        record = {'faces': options.faces, 'rows': {}}
    rows = [row for row in tables(runs)[3].rows if row.title in ROWS]
    for row, seed in itertools.product(rows, options.seeds):
        known = record['rows'].setdefault(row.title, {})
        if str(seed) in known:
            continue
        found = measure_row(runs, cache, row, seed, options.faces)
        if found is not None:
            known[str(seed)] = found
            write_record(name, record)
    if not any(record['rows'].values()):
        print(
            f'{options.cache} has no finished row of Table 3: python -m '
            'sicnn_jax.reproduce --table=3 trains them.'
        )
        return
    print(table(record))


if __name__ == '__main__':
    sys.exit(main())
