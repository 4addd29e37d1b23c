"""From a config to a stage that can be trained: networks, rule, recipe, record."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sicnn_jax import images, losses, models, provenance
from sicnn_jax.optimizers import make_optimizer
from sicnn_jax.recipe import Recipe
from sicnn_jax.rules import Rule, find_rule
from sicnn_jax.terms import IDENTITY_TERMS, TERMS

__all__ = ['CENTROIDS', 'Stage', 'build_stage', 'read_weights']

# Class weights may come from this instead of a stage: see `train.centroids`.
CENTROIDS = 'centroids'


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage ready to train: its rule, recipe, settings and place on disk."""

    name: str
    directory: Path
    config: ConfigDict
    recipe: Recipe
    rule: Rule
    record: dict[str, Any]

    @property
    def networks(self) -> tuple[str, ...]:
        """All networks of its state: trained, fitted or only read."""
        return (*self.rule.makes, *self.rule.frozen(self.recipe.weights))


def build_stage(config: ConfigDict, name: str, workdir: Path) -> Stage:
    """Builds a stage from a config whose fields `config.check` has seen.

    Raises:
      ValueError: fields contradict each other, or the stage lacks a network.
    """
    stage = config[name]
    rule = find_rule(stage.update_rule)
    record = _describe(config, name, rule)
    _check_rule(config, name, models.cnnh_from(record), rule)
    recipe = _make_recipe(config, stage, rule, record)
    _check_inputs(config, name, rule, recipe)
    return Stage(name, workdir / name, stage, recipe, rule, record)


def _describe(config: ConfigDict, name: str, rule: Rule) -> dict[str, Any]:
    """The record of a stage's checkpoints: its networks, the images that they know, and
    the settings of their training.
    """
    networks: tuple[str, ...] = ('cnnr', 'cnnh')
    if 'discriminator' in rule.trains:
        networks += ('discriminator',)
    record = {
        'convention': images.CONVENTION,
        'scale': config.scale,
        'degradation': config.degradation,
        'models': {each: json.loads(config[each].to_json()) for each in networks},
        'settings': provenance.settings(config, name, rule),
    }
    if record['models']['cnnr'].get('kind') == 'onnx':
        record['models']['cnnr'] = models.describe_file(record['models']['cnnr'])
    # Records written before `kind` existed have no such field.
    for network in ('cnnr', 'cnnh'):
        if record['models'][network].get('kind') == network:
            del record['models'][network]['kind']
    return record


def _make_recipe(
    config: ConfigDict, stage: ConfigDict, rule: Rule, record: Mapping[str, Any]
) -> Recipe:
    discriminator = None
    if 'discriminator' in rule.trains:
        discriminator = models.discriminator_from(record)
    # Stages lack the fields that their rule does not read.
    fields = ('beta', 'identity_shift', 'identity_blur', 'loss_scale', 'microbatches')
    given = {field: stage[field] for field in fields if field in stage}
    recognition = config.recognition_loss
    return Recipe(
        cnnr=models.cnnr_from(record),
        cnnh=models.cnnh_from(record),
        optimizers={
            network: make_optimizer(stage.optimizer[network], stage.steps)
            for network in rule.trains
        },
        recognition_loss=losses.recognition_loss(
            recognition.name, **recognition.get(recognition.name, {})
        ),
        annealing=losses.annealing_schedule(**stage.get('annealing', {})),
        scale=config.scale,
        degradation=config.degradation,
        weights=read_weights(stage),
        split_identities=recognition.split_identities,
        sampled_identities=recognition.sampled_identities,
        seed=config.seed,
        discriminator=discriminator,
        **given,
    )


def read_weights(stage: Mapping[str, Any]) -> dict[str, float]:
    """The weights of CNNH's terms that are not 0, from the fields of a stage.

    `alpha` weighs the term that `identity_loss` names, `NAME_weight` any other.
    """
    fields = {stage.get('identity_loss', ''): 'alpha'}
    fields |= {name: f'{name}_weight' for name in TERMS if name not in IDENTITY_TERMS}
    return {name: stage[field] for name, field in fields.items() if stage.get(field)}


def _check_inputs(config, name, rule, recipe):
    """Checks the dispatch, and the sources of networks that the stage only reads."""
    stage = config[name]
    programs = rule.iteration(fused=stage.get('fused', False))
    if config.steps_per_dispatch > 1 and len(programs) > 1:
        raise ValueError(
            f'config.steps_per_dispatch is {config.steps_per_dispatch}, but '
            f'config.{name} dispatches each half of an iteration by itself: set '
            f'config.{name}.fused to True.'
        )
    for network in rule.frozen(recipe.weights):
        if not stage.init[network]:
            raise ValueError(
                f'config.{name}.init has no {network!r}, which {stage.update_rule} '
                'reads but does not train: say from which stage it comes.'
            )


def _check_rule(config, name, cnnh, rule):
    """Checks that the rule can train the networks."""
    stage = config[name]
    kind, rule_name = config.cnnh.kind, stage.update_rule
    if rule.calls and not hasattr(cnnh, rule.calls):
        fitting = [k for k, c in models.KINDS.items() if hasattr(c, rule.calls)]
        raise ValueError(
            f'config.{name}.update_rule is {rule_name!r}, which needs config.cnnh.kind '
            f'to be {", ".join(fitting)}, but it is {kind!r}: start from the config of '
            'that kind.'
        )
    recogniser = models.RECOGNISERS.get(config.cnnr.kind)
    if 'cnnr' in rule.fits and not hasattr(recogniser, 'fit'):
        fitting = [k for k, c in models.RECOGNISERS.items() if hasattr(c, 'fit')]
        raise ValueError(
            f'config.{name}.update_rule is {rule_name!r}, but config.cnnr.kind is '
            f'{config.cnnr.kind!r}, which is trained here: expected config.cnnr.kind '
            f'{", ".join(fitting)}, or the rule recognition.'
        )
    if 'cnnh' in rule.trains and hasattr(cnnh, 'fit'):
        raise ValueError(
            f'config.{name}.update_rule is {rule_name!r}, but config.cnnh.kind '
            f"{kind!r} is not trained: expected the rule 'fit'."
        )
    if rule.fits and stage.steps != 1:
        raise ValueError(
            f'config.{name}.steps is {stage.steps}; expected 1, because the rule '
            f'{rule_name!r} does everything in one step.'
        )
    for network in rule.trains:
        if network not in stage.optimizer:
            raise ValueError(
                f'config.{name}.optimizer has no entry for {network!r}, which the rule '
                f'{rule_name!r} trains: add one, see sicnn_jax/config/schema.py.'
            )
    if 'discriminator' in rule.trains and stage.adversarial_weight <= 0:
        raise ValueError(
            f'config.{name}.adversarial_weight is {stage.adversarial_weight}; expected '
            "more than 0, or the rule 'hallucination', which has no discriminator."
        )
