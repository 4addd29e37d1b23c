"""Compares the training settings of a stage's networks with a config.

A directory with networks may not have those that the config asks for. Its record
describes them, and differences that matter are refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sicnn_jax import checkpoint, paths
from sicnn_jax.config.fields import is_stage
from sicnn_jax.rules import Rule

__all__ = ['CHANGED', 'admit', 'admit_earlier', 'compared', 'settings']

# What happens to a stage whose settings or data differ from those of the config: it is
# an error; it continues with the new ones, if it was interrupted; or it is set aside
# and trained anew.
CHANGED = ('refuse', 'continue', 'anew')

# Fields of a config that a stage's networks do not depend on, by section. They depend
# on all others: a new field counts unless it is added here.
_FREE = {
    '': (
        # What the run does, prints and measures.
        *('stages', 'evaluation', 'log_every', 'nonfinite_steps'),
        # How it is computed: the steps are the same up to rounding.
        *('steps_per_dispatch', 'cpu_devices', 'winograd'),
        # Fields that other parts of the record have.
        *('scale', 'degradation', 'cnnr', 'cnnh', 'discriminator'),
    ),
    # The place of the faces. Their fingerprint identifies them, and the teacher's name
    # the teacher.
    'data': (
        *('source', 'dir', 'on_error', 'max_error_share', 'targets'),
        *('seed', 'identities', 'images_per_identity', 'misalignment'),
        *('test_identities', 'test_images_per_identity'),
    ),
    'recognition_loss': ('split_identities',),
    'stage': (
        *('checkpoint', 'checkpoint_every', 'evaluate_every', 'best'),
        *('microbatches', 'fused'),
        # The record describes these networks.
        'init',
    ),
}


def settings(config: ConfigDict, name: str, rule: Rule) -> dict[str, Any]:
    """The fields of a config that the networks of a stage depend on, for its record."""
    fields = json.loads(config.to_json())
    others = [field for field in fields if is_stage(config, field)]
    kept = _without(fields, *_FREE[''], *others, 'recognition_loss')
    kept['data'] = _without(fields['data'], *_FREE['data'])
    if 'class_weights' in rule.trains:
        loss = _without(fields['recognition_loss'], *_FREE['recognition_loss'])
        # Each loss has its own section.
        unused = [key for key in loss if isinstance(loss[key], dict)]
        unused = [key for key in unused if key != loss['name']]
        kept['recognition_loss'] = _without(loss, *unused)
    kept[name] = _without(fields[name], *_FREE['stage'])
    return kept


def _without(fields, *names):
    return {field: value for field, value in fields.items() if field not in names}


def compared(record: Mapping[str, Any], networks: tuple[str, ...]) -> dict[str, Any]:
    """The part of a record that must be the same for a stage's networks to be the same.

    The record may describe more networks than these, which the stage has.
    """
    models = record['models']
    kept = dict(record) | {'models': {n: models[n] for n in networks if n in models}}
    # CNNR takes faces of a single size, wherever they come from.
    return kept if 'cnnh' in networks else _without(kept, 'scale', 'degradation')


def admit(
    directory: Path, expected: Mapping[str, Any], changed: str = 'refuse'
) -> None:
    """Admits a trained or begun stage if it agrees with the config.

    Args:
      expected: from `compared`.
      changed: one of `CHANGED`.

    Raises:
      CheckpointError: it does not agree; the message has each field that differs, both
        values and the remedies. Or its checkpoint is damaged or cannot be read.
    """
    found = checkpoint.read_record(directory) or {}
    differing = [field for field, _, _ in checkpoint.differences(found, expected)]
    if not differing:
        return
    if changed == 'anew':
        aside = paths.free(directory.with_name(f'{directory.name}.before'))
        directory.rename(aside)
        fields = ', '.join(differing)
        print(f'{directory} differs in {fields}: set aside as {aside}', flush=True)
        return
    settings_only = all(field.startswith('config.') for field in differing)
    goes_on = settings_only and not checkpoint.has_networks(directory)
    if changed == 'continue' and goes_on:
        return
    remedy = (
        'Give another --workdir, or the old settings and data; --changed=anew sets '
        f'{directory.name} aside and trains it again'
    )
    if goes_on:
        remedy += ', --changed=continue continues with the new settings'
    checkpoint.check_record(found, expected, str(directory), f'{remedy}.')


def admit_earlier(directory: Path, expected: Mapping[str, Any]) -> None:
    """As `admit`, for a stage of the workdir that the command does not train.

    The workdir has one config, which would otherwise be wrong about that stage.
    """
    remedy = (
        'The config of a workdir holds for all its stages: give another --workdir, '
        f'with --config.{directory.name}.checkpoint={directory} to begin from this '
        'stage.'
    )
    checkpoint.check_record(
        checkpoint.read_record(directory) or {}, expected, str(directory), remedy
    )
