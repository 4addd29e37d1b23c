"""What a stage's networks were trained with, and whether that is what a config says.

A directory that has networks is not thereby what the config at hand asks for: its
record says what it is, and what differs and matters is refused.
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

# What becomes of a stage that was trained with other settings or data than the config
# says: an error; it goes on with what the config says, if it was interrupted; it is set
# aside and trained anew.
CHANGED = ('refuse', 'continue', 'anew')

# Fields of a config that a stage's networks do not depend on, by section. On any other
# they do: a new one counts unless it is added here.
_FREE = {
    '': (
        # What is done, said and measured.
        *('stages', 'evaluation', 'log_every', 'nonfinite_steps'),
        # How: the same steps, to rounding.
        *('steps_per_dispatch', 'cpu_devices', 'winograd'),
        # Other parts of the record.
        *('scale', 'degradation', 'cnnr', 'cnnh', 'discriminator'),
    ),
    # Where the faces are. What they are, their fingerprint says, and of the teacher its
    # name.
    'data': (
        *('source', 'dir', 'on_error', 'max_error_share', 'targets'),
        *('seed', 'identities', 'images_per_identity', 'misalignment'),
        *('test_identities', 'test_images_per_identity'),
    ),
    'recognition_loss': ('split_identities',),
    'stage': (
        *('checkpoint', 'checkpoint_every', 'evaluate_every', 'best'),
        *('microbatches', 'fused'),
        # What these networks are, the record says.
        'init',
    ),
}


def settings(config: ConfigDict, name: str, rule: Rule) -> dict[str, Any]:
    """The fields of a config that the networks of a stage depend on, for its record.

    Args:
      config: of the run.
      name: of the stage.
      rule: that it has.
    """
    fields = json.loads(config.to_json())
    others = [field for field in fields if is_stage(config, field)]
    kept = _without(fields, *_FREE[''], *others, 'recognition_loss')
    kept['data'] = _without(fields['data'], *_FREE['data'])
    if 'class_weights' in rule.trains:
        loss = _without(fields['recognition_loss'], *_FREE['recognition_loss'])
        # Each loss has a section of its own.
        unused = [key for key in loss if isinstance(loss[key], dict)]
        unused = [key for key in unused if key != loss['name']]
        kept['recognition_loss'] = _without(loss, *unused)
    kept[name] = _without(fields[name], *_FREE['stage'])
    return kept


def _without(fields, *names):
    return {field: value for field, value in fields.items() if field not in names}


def compared(record: Mapping[str, Any], networks: tuple[str, ...]) -> dict[str, Any]:
    """What has to be the same in two records for the networks of a stage to be.

    Args:
      record: of the stage, which also describes networks that it has not.
      networks: that it has.
    """
    models = record['models']
    kept = dict(record) | {'models': {n: models[n] for n in networks if n in models}}
    # CNNR takes faces of one size, wherever they are from.
    return kept if 'cnnh' in networks else _without(kept, 'scale', 'degradation')


def admit(
    directory: Path, expected: Mapping[str, Any], changed: str = 'refuse'
) -> None:
    """Lets a stage that was trained, or begun, be used if it is what a config says.

    Args:
      directory: of the stage.
      expected: of `compared`.
      changed: of `CHANGED`.

    Raises:
      CheckpointError: it is not, with each field that differs, both values and the ways
        out; or its checkpoint is damaged or cannot be read.
    """
    found = checkpoint.read_record(directory)
    if found is None:
        return
    finished = checkpoint.has_networks(directory)
    differing = checkpoint.differences(found, expected)
    if not differing:
        return
    if changed == 'anew':
        aside = paths.free(directory.with_name(f'{directory.name}.before'))
        directory.rename(aside)
        fields = ', '.join(field for field, _, _ in differing)
        print(f'{directory} differs in {fields}: set aside as {aside}', flush=True)
        return
    goes_on = not finished and all(
        field.startswith('config.') for field, _, _ in differing
    )
    if changed == 'continue' and goes_on:
        return
    remedy = (
        'Give another --workdir, or the old settings and data; --changed=anew sets '
        f'{directory.name} aside and trains it again'
    )
    if goes_on:
        remedy += ', --changed=continue goes on with the new settings'
    checkpoint.check_record(found, expected, str(directory), f'{remedy}.')


def admit_earlier(directory: Path, expected: Mapping[str, Any]) -> None:
    """As `admit`, a stage that a command leaves alone in the workdir that it is given.

    The workdir has one config, which would say of that stage what is not so.
    """
    remedy = (
        'The config of a workdir is that of all its stages: give another --workdir, '
        f'with --config.{directory.name}.checkpoint={directory} if this one is to '
        'begin from it.'
    )
    checkpoint.check_record(
        checkpoint.read_record(directory) or {}, expected, str(directory), remedy
    )
