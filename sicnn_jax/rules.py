"""What a stage does in an iteration, by the `update_rule` of its config.

A new rule is an entry of `RULES`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sicnn_jax import algorithm, compared_steps
from sicnn_jax.descent import Iteration, counted
from sicnn_jax.terms import TERMS, find_term

__all__ = ['RECOGNISER', 'RULES', 'Rule', 'find_rule']

RECOGNISER = ('cnnr', 'class_weights')


@dataclasses.dataclass(frozen=True)
class Rule:
    """An iteration, and everything known about it.

    Attributes:
      programs: its halves, each mapped over the devices and dispatched by itself, one
        after the other; most rules have one program.
      trains: networks that it updates.
      reads: other networks that it reads, whatever the weights.
      weighs: CNNH's objective may have the terms of `terms.TERMS`.
      fused: the same iteration in one program, for a rule that has several.
      calls: the method of CNNH that it needs, if that is not `__call__`.
      fits: networks that are made from faces when the stage begins, in one step.
      taught: its batches have targets, the features of a teacher.
      fields: that only stages of this rule have, with their defaults.
    """

    programs: tuple[Iteration, ...]
    trains: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    weighs: bool = False
    fused: Iteration | None = None
    calls: str = ''
    fits: tuple[str, ...] = ()
    taught: bool = False
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def makes(self) -> tuple[str, ...]:
        """Networks that a stage of the rule produces: trained or fitted."""
        return (*self.trains, *self.fits)

    @property
    def terms(self) -> tuple[str, ...]:
        """Terms that it may weigh: they read only CNNR or networks that it trains."""
        known = {'cnnr', *self.trains} if self.weighs else set()
        return tuple(
            name for name, term in TERMS.items() if known and known >= {*term.reads}
        )

    def iteration(self, *, fused: bool = False) -> tuple[Iteration, ...]:
        """Programs that together make one iteration, each dispatched by itself.

        Only the last one counts the step.

        Args:
          fused: one program, where the rule has several and can be fused.
        """
        *halves, last = (self.fused,) if fused and self.fused else self.programs
        return (*halves, counted(last))

    def frozen(self, weights: Mapping[str, float]) -> tuple[str, ...]:
        """Networks that an iteration with these weights reads and does not train."""
        read = [*self.reads]
        for name, weight in weights.items():
            if weight:
                read += find_term(name).reads
        return tuple(dict.fromkeys(name for name in read if name not in self.trains))


RULES = {
    'recognition': Rule((algorithm.recognition,), trains=RECOGNISER),
    'mixed_recognition': Rule(
        (algorithm.mixed_recognition,), trains=RECOGNISER, reads=('cnnh',)
    ),
    'distillation': Rule((algorithm.distillation,), trains=('cnnr',), taught=True),
    # For CNNR's features of another length than the teacher's.
    'distillation_by_head': Rule(
        (algorithm.distillation,), trains=('cnnr', 'head'), taught=True
    ),
    # For a CNNR that was trained elsewhere.
    'pretrained': Rule((compared_steps.fit,), fits=('cnnr',)),
    'hallucination': Rule((algorithm.hallucination,), trains=('cnnh',), weighs=True),
    'domain_integrated': Rule(
        (algorithm.mixed_recognition, algorithm.hallucination),
        trains=(*RECOGNISER, 'cnnh'),
        weighs=True,
        fused=algorithm.domain_integrated,
    ),
    # Algorithm 1, with the teacher instead of L_FR in line 4.
    'taught_integrated': Rule(
        (algorithm.mixed_distillation, algorithm.hallucination),
        trains=('cnnr', 'cnnh'),
        weighs=True,
        fused=algorithm.taught_integrated,
        taught=True,
    ),
    'joint': Rule(
        (algorithm.joint,),
        trains=(*RECOGNISER, 'cnnh'),
        weighs=True,
        # β, weight of L_FR (Eq. 4).
        fields={'beta': 1.0},
    ),
    'pyramid': Rule((compared_steps.pyramid,), trains=('cnnh',), calls='pyramid'),
    'adversarial': Rule(
        (compared_steps.adversarial,), trains=('discriminator', 'cnnh'), weighs=True
    ),
    'fit': Rule((compared_steps.fit,), calls='fit', fits=('cnnh',)),
}


def find_rule(name: str) -> Rule:
    """The rule of that name; raises ValueError if there is none."""
    if name not in RULES:
        raise ValueError(
            f'update_rule is {name!r}; expected one of {", ".join(RULES)}.'
        )
    return RULES[name]
