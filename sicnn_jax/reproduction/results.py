"""What finished runs measured, and whether one method is better than another."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from sicnn_jax import metrics, results_file
from sicnn_jax.evaluation.compare import EACH_FILE
from sicnn_jax.evaluation.held_out import load_test_faces
from sicnn_jax.evaluation.judge import load_judge
from sicnn_jax.evaluation.methods import load_methods
from sicnn_jax.reproduction.experiments import Cache, Run
from sicnn_jax.reproduction.runs import Runs
from sicnn_jax.reproduction.tables import Row, recognised, seeds_of

# A difference of less than this many standard errors is a tie.
_TIE = 2.0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row compared with another, which is worse in the paper.

    Attributes:
      difference: of their means; positive if the order is the paper's.
      standard_error: of the difference, over faces or pairs, or over the seeds: the
        larger one.
      seeds: the number of seeds that both rows were trained with.
    """

    difference: float
    standard_error: float
    seeds: int

    @property
    def verdict(self) -> str:
        """Whether the paper's order 'holds', 'does not hold', or there is a 'tie'."""
        small = abs(self.difference) < _TIE * self.standard_error
        if small or self.difference == 0:
            return 'tie'
        return 'holds' if self.difference > 0 else 'does not hold'


class Results:
    """What finished runs of a cache measured."""

    def __init__(self, cache: Cache, runs: Runs):
        self._cache, self._runs = cache, runs

    def each(self, row: Row, column: str, seed: int) -> np.ndarray | None:
        """A measure of each face or pair; None if it was not measured."""
        if column == 'recognisability':
            return self.recognition(recognised(self._runs, row, seed))
        path = self._cache.directory(row.run(seed)) / EACH_FILE
        if not path.is_file():
            return None
        with np.load(path) as arrays:
            name = f'{row.method}/{column}'
            return arrays[name].astype(np.float64) if name in arrays else None

    def about(self, row: Row, seed: int) -> dict[str, Any] | None:
        """What a run says it was measured on; None if it is not finished."""
        path = self._cache.directory(row.run(seed)) / 'results.json'
        return results_file.read_json(path) if path.is_file() else None

    def recognition(
        self, run: Run, stage: str = 'recognition', method: str = 'hr'
    ) -> np.ndarray | None:
        """Which held-out pairs the CNNR of a stage verifies; None if not trained.

        Features are of a face and its mirror image.

        Args:
          run: whose held-out faces and pairs are used.
          stage: of the run, or of the run that gives it.
          method: in results.json, which makes the faces; 'hr' for the faces themselves.
        """
        if not self._cache.is_finished(run):
            return None
        directory = self._cache.directory(run)
        path = directory / f'{stage}_{method}_pairs.json'
        if not path.is_file():
            config = run.resolved.copy_and_resolve_references()
            config.data = self._cache.data(run)
            faces, pairs, _ = load_test_faces(config, directory)
            if method != 'hr':
                faces = load_methods(config, directory)(faces)[method]
            giver = self._cache.directory(dict(run.given).get(stage, run))
            _, features = load_judge(giver / stage).describe(faces)
            _, right = pairs.verify(features)
            results_file.write_results({'right': right.astype(int).tolist()}, path)
        kept = json.loads(path.read_text(encoding='utf-8'))
        return np.array(kept['right'], np.float64)

    def means(self, row: Row, column: str, seeds: Sequence[int]) -> np.ndarray | None:
        """A row's mean with each of its seeds; None if there is none."""
        values = [self.each(row, column, seed) for seed in seeds_of(row, seeds)]
        found = [value.mean() for value in values if value is not None]
        return np.array(found) if found else None

    def compare(
        self, worse: Row, better: Row, column: str, seeds: Sequence[int]
    ) -> Comparison | None:
        """Compares two rows face by face or pair by pair; None if not measured.

        The error over faces or pairs is a paired bootstrap's.
        """
        differences = []
        for seed in seeds_of(worse, seeds):
            if seed in seeds_of(better, seeds):
                a, b = (self.each(row, column, seed) for row in (worse, better))
                if a is not None and b is not None:
                    differences.append(b - a)
        if not differences:
            return None
        each = np.mean(differences, axis=0)
        error = float(metrics.resampled_means(each).std())
        if len(differences) > 1:
            spread = np.std([d.mean() for d in differences], ddof=1)
            error = max(error, float(spread / np.sqrt(len(differences))))
        return Comparison(float(each.mean()), error, len(differences))
