"""Loads a config and sets fields, for every command, notebook and study."""

import copy
import inspect
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from sicnn_jax.config import ConfigError, check, fields
from sicnn_jax.config.find import find, make_importable, split
from sicnn_jax.config.places import local_paths

__all__ = ['execute', 'last_of_each', 'load']


def load(value: str, overrides: Sequence[str] | Mapping[str, Any] = ()) -> ConfigDict:
    """Loads and checks a config.

    Args:
      value: the name of a shipped config or the path of a file, and its variant:
        'di:demo', 'configs/di.py:demo', 'mine.py'.
      overrides: fields to set, as on the command line ('--config.sr_only.steps=3') or
        by their names ({'sr_only.steps': 3}). If a field is given twice, the last value
        counts.

    Raises:
      ConfigError: the file is not found, or the config is wrong; it lists all problems.
    """
    if isinstance(overrides, Mapping):
        overrides = [f'--config.{name}={value}' for name, value in overrides.items()]
    config, problems = _override(execute(value), last_of_each(overrides))
    config, misplaced = local_paths(config)
    check.check(config, [*problems, *misplaced])
    return config


def execute(value: str) -> ConfigDict:
    """The config that a file makes, unchecked; see `find.find`.

    Raises:
      ConfigError: the file is not found or not a config, or has no such variant.
    """
    path, variant = split(find(value))
    make_importable()
    get_config = runpy.run_path(path).get('get_config')
    if get_config is None:
        raise ConfigError(
            f'--config={value}: {path} has no function get_config; expected one that '
            'returns the config.'
        )
    if variant and not inspect.signature(get_config).parameters:
        raise ConfigError(f'--config={value}: {path} has no variants: leave out :…')
    try:
        return get_config(variant) if variant else get_config()
    except ValueError as error:
        raise ConfigError(f'--config={value}: {error}') from error


def last_of_each(arguments: Sequence[str]) -> list[str]:
    """The last value of each field that is given twice; absl would join tuples."""
    last = {_field(argument): i for i, argument in enumerate(arguments)}
    return [
        argument
        for i, argument in enumerate(arguments)
        if not _field(argument).startswith('config.') or last[_field(argument)] == i
    ]


def _override(config, overrides):
    """The config with fields set, and all problems with these settings.

    absl and ml_collections would stop at the first problem.
    """
    try:
        return _set(config, overrides), []
    except Exception:
        problems = {each: _problem(config, each) for each in overrides}
    good = [each for each, problem in problems.items() if problem is None]
    found = [*filter(None, problems.values())]
    try:
        return _set(config, good), found
    # Each is good by itself, but both a section and one of its fields are given. The
    # kind of error depends on their order.
    except Exception as error:
        return config, [*found, f'{" ".join(good)} contradict each other: {error}']


def _problem(config, override):
    """The problem with one setting; None if there is none."""
    try:
        _set(config, [override])
        return None
    # An unknown field raises AttributeError, KeyError or others, by its place.
    except Exception as error:
        reason = str(error)
    name = _field(override)
    section, above = config, 'config'
    for field in name.split('.')[1:]:
        if not isinstance(section, ConfigDict):
            return f'{name}: {above} has no fields.'
        if field not in section:
            return fields.unknown_field(f'{above}.{field}', section)
        above, section = f'{above}.{field}', section[field]
    return (
        f'{name} is {override.partition("=")[2]!r}; expected '
        f'{fields.type_name(section)}: {reason.removeprefix(f"flag {override}: ")}'
    )


def _set(config, overrides):
    """A copy with fields set, with values read as by absl."""
    values = flags.FlagValues()
    argv = ['', *overrides]
    config_flags.DEFINE_config_dict(
        'config', copy.deepcopy(config), flag_values=values, sys_argv=argv
    )
    values(argv)
    return values['config'].value


def _field(argument):
    return argument.partition('=')[0].lstrip('-')
