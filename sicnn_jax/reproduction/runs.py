"""The runs that the paper's tables and figures are made from, at each scale."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from sicnn_jax.config import ConfigError
from sicnn_jax.config.load import execute
from sicnn_jax.evaluation.methods import LEARNED
from sicnn_jax.reproduction.experiments import Run

SCALES = {'demo': ':demo', 'real': ':real', 'small': ':small', 'paper': ''}
# The factor of the paper's α. In stages as short as the demo's, α = 8 has no effect;
# configs/di.py:demo has 256 instead (docs/notes/narrow_networks.md). So has `:real`,
# whose CNNR sees faces in the same way.
_ALPHA_FACTOR = {'demo': 32.0, 'real': 32.0, 'small': 1.0, 'paper': 1.0}
# Methods of other authors → config and variant.
COMPARED = {
    'ma': ('position_patch', ''),
    'lapsrn': ('lapsrn', ''),
    'ur_dgn': ('ur_dgn', ''),
    'ur_dgn_perceptual': ('ur_dgn', 'perceptual'),
}
# The stages before the third one.
BEFORE = ('recognition', 'hallucination')


class Runs:
    """The runs of a scale; `overrides` hold for all of them that have the field.

    Raises:
      ConfigError: configs/di.py has no such field, or it is of another type; or it is
        the seed, because a row may have several seeds.
    """

    def __init__(self, scale: str, overrides: Sequence[tuple[str, Any]] = ()):
        self._variant = SCALES[scale]
        self.alpha_factor = _ALPHA_FACTOR[scale]
        # All third stages begin from the same networks, and none takes longer.
        self.from_one_start = scale == 'real'
        # A fresh CNNR for each row (Sec. 4.7) takes longer than the row itself.
        self.fresh_recognisers = scale != 'real'
        # The names of tables and figures begin with it.
        self.prefix = 'real_' if scale == 'real' else ''
        self._overrides = tuple(overrides)
        if 'seed' in dict(self._overrides):
            raise ConfigError('config.seed is not for all runs: give --seeds=N,N.')
        # Stages that are trained once for all seeds.
        self._taught = ('recognition',) if self.from_one_start else ()
        _ = self.sicnn(0).resolved

    def sicnn(self, seed: int) -> Run:
        """All stages of configs/di.py; the other runs take the first ones from it."""
        return self._run('sicnn', 'di', seed, self._taught)

    def recogniser(self) -> Run:
        """CNNR that a teacher taught, one for all seeds."""
        return self._run('recogniser', 'di', 0, (), ('stages', ('recognition',)))

    def alpha(self, alpha: float, seed: int) -> Run:
        """Domain-integrated training with the paper's α times the scale's factor."""
        sicnn = self.sicnn(seed)
        value = alpha * self.alpha_factor
        if value == sicnn.resolved.domain_integrated.alpha:
            return sicnn
        own, override = ('domain_integrated',), ('domain_integrated.alpha', value)
        return self.third(f'alpha{alpha:g}', 'di', seed, own, override)

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
        """A fresh CNNR, trained on faces that a method super-resolved."""
        name, scale = f'recognise-{method}', 8
        if run:
            name, scale = f'{name}-of-{run.name}', run.resolved.scale
        stages = ('stages', ('recognition',))
        recogniser = self._run(name, 'di', seed, (), stages, ('scale', scale))
        faces = (run, LEARNED[method].stage) if run else (None, '')
        return dataclasses.replace(recogniser, faces=faces)

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
          name, seed: of the run.
          config: of configs/, without `.py`.
          own: the stages after the first two.
          *overrides: (field, value) in the order in which they are set.
          given: stages that SICNN of the same seed gives.
          variant: of the config, in addition to the scale's.
        """
        stages = ('stages', (*BEFORE, *own))
        return self._run(name, config, seed, given, stages, *overrides, variant=variant)

    def _run(self, name, config, seed, given, *overrides, variant=''):
        whole = '_'.join(filter(None, (self._variant.lstrip(':'), variant)))
        file = f'configs/{config}.py' + (f':{whole}' if whole else '')
        shared = self._overrides
        if config != 'di':
            fields = execute(file)
            shared = tuple(each for each in shared if _has_field(fields, each[0]))
        return Run(
            f'{name}-seed{seed}',
            file,
            (('seed', seed), *shared, *overrides),
            tuple((stage, self._giver(stage, seed)) for stage in given),
        )

    def _giver(self, stage, seed):
        return self.recogniser() if stage in self._taught else self.sicnn(seed)


def _has_field(config, path):
    for field in path.split('.'):
        if field not in config:
            return False
        config = config[field]
    return True
