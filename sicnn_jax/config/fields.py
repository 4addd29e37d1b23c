"""Finds fields that are unknown, missing or of another type than in `schema`."""

import difflib
import math
from collections.abc import Collection, Iterable
from typing import Any

from ml_collections import ConfigDict

from sicnn_jax import models
from sicnn_jax.config import schema
from sicnn_jax.rules import RULES

# Fields that None turns off.
_OPTIONAL = {'init_std'}
# Items of the tuples that are empty by default.
_ITEMS = {'stages': 'recognition', 'boundaries': 1, 'folds': 1, 'reported_folds': 1}
# The largest seed; counts are smaller.
_LARGEST = 2**32 - 1


def field_problems(config: ConfigDict) -> tuple[list[str], ConfigDict]:
    """Fields that are unknown, missing or of another type.

    Returns:
      The problems, and the config with wrong values replaced by known ones, for
      `combination_problems`.
    """
    problems: list[str] = []
    mended, known = ConfigDict(), schema.base()
    stages = stage_names(config)
    if 'discriminator' in config:
        known.discriminator = schema.discriminator()
    for name, value in config.items():
        if name in stages:
            mended[name] = _mended_stage(value, f'config.{name}', problems)
        elif name not in known:
            problems.append(unknown_field(f'config.{name}', [*known, *stages]))
    rest = ConfigDict({name: config[name] for name in config if name in known})
    for name, value in _mend(rest, known, 'config', problems).items():
        mended[name] = value
    if not mended.stages and config.get('stages') not in ((), []):
        # The error that they are not a tuple of strings is enough.
        mended.stages = tuple(stages)
    return problems, mended


def unknown_field(path: str, choices: Collection[str]) -> str:
    """Says that a field, such as `config.data.dri`, is unknown, and what was meant.

    `choices` are the fields that exist there.
    """
    above, _, field = path.rpartition('.')
    meant = did_you_mean(field, choices, f'{above}.')
    return f'{path} is unknown.' + (meant or f' There are {", ".join(choices)}.')


def none_of(path: str, value: Any, choices: Iterable) -> str:
    """Says that the value of a field is none of the choices."""
    return f'{path} is {value!r}; expected one of {", ".join(map(str, choices))}.'


def is_stage(config: ConfigDict, name: str) -> bool:
    """Whether the config has a stage of that name."""
    return isinstance(config.get(name), ConfigDict) and 'update_rule' in config[name]


def stage_names(config: ConfigDict) -> list[str]:
    """The stages that the config has, whether they are to be trained or not."""
    return [name for name in config if is_stage(config, name)]


def _mended_stage(stage, path, problems):
    fields = dict(stage.items())
    optimizers = fields.pop('optimizer', ConfigDict())
    if not _is_section(optimizers, f'{path}.optimizer', problems):
        optimizers = ConfigDict()
    rule, found = fields['update_rule'], problems
    if not isinstance(rule, str) or rule not in RULES:
        problems.append(none_of(f'{path}.update_rule', rule, RULES))
        # Nobody knows its fields; those of another rule stand in for them.
        fields['update_rule'], found = 'domain_integrated', []
    known = schema.stage_fields(fields['update_rule'])
    mended = _mend(ConfigDict(fields), known, path, found)
    known = schema.optimizer('sgd', 0.1)
    mended.optimizer = ConfigDict(
        {
            network: _mend(each, known, f'{path}.optimizer.{network}', problems)
            for network, each in optimizers.items()
            if _is_section(each, f'{path}.optimizer.{network}', problems)
        }
    )
    return mended


def _mend(section, known, path, problems):
    """A section with exactly the known fields; adds the problems that it finds."""
    # Another kind has the fields of another module, which checks them itself.
    if section.get('kind') != known.get('kind'):
        return section
    mended = known.copy_and_resolve_references()
    for field, value in section.items():
        where = f'{path}.{field}'
        if field not in known:
            problems.append(unknown_field(where, known))
        elif isinstance(known[field], ConfigDict) and isinstance(value, ConfigDict):
            mended[field] = _mend(value, known[field], where, problems)
        elif not _is_of_type(value, known[field], field):
            several = ' or a tuple of integers' if field in models.CNNH_SIZES else ''
            problems.append(
                f'{where} is {value!r}; expected {type_name(known[field])}{several} '
                f'such as {_example(known[field], field)!r}.'
            )
        elif not all(map(_is_in_range, value if is_tuple(value) else [value])):
            problems.append(
                f'{where} is {value!r}; expected finite numbers, integers from 0 to '
                f'{_LARGEST}.'
            )
        else:
            # The value has one of the types that the field may have.
            with mended.ignore_type():
                mended[field] = value
    problems += (
        f'{path}.{field} is missing; its default is {_plain(known[field])!r}.'
        for field in known
        if field not in section
    )
    return mended


def _is_section(value, path, problems):
    """Whether a value has fields; adds a problem if not."""
    if isinstance(value, ConfigDict):
        return True
    problems.append(f'{path} is {value!r}; expected a section of fields.')
    return False


def is_tuple(value: Any) -> bool:
    """Whether a value is a tuple, or a list that was a tuple."""
    return isinstance(value, tuple | list)


def _is_in_range(value):
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or 0 <= value <= _LARGEST


def did_you_mean(name: str, choices: Iterable[str], prefix: str = '') -> str:
    """The choice that was probably meant, as a question; '' if none is near."""
    found = difflib.get_close_matches(name, list(choices), n=1)
    return f' Did you mean {prefix}{found[0]}?' if found else ''


def _is_of_type(value, example, field):
    if value is None:
        return example is None or field in _OPTIONAL
    if isinstance(example, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(example, bool)
    if isinstance(example, float):
        return isinstance(value, int | float)
    if field in models.CNNH_SIZES and is_tuple(value):
        return len(value) > 0 and all(type(item) is int for item in value)
    if is_tuple(example):
        (item, *_) = _example(example, field)
        # A network needs at least one layer.
        return (
            is_tuple(value)
            and (len(value) > 0 or not example)
            and all(_is_of_type(each, item, field) for each in value)
        )
    return example is None or isinstance(value, type(example))


def type_name(example: Any) -> str:
    """The type of a field with such a value, in words."""
    names = {bool: 'True or False', int: 'an integer', float: 'a number', str: 'text'}
    for kind, name in names.items():
        if isinstance(example, kind):
            return name
    return 'a section of fields' if isinstance(example, ConfigDict) else 'a tuple'


def _example(value, field):
    """A value that a field may have: the known one, unless it is empty."""
    return (_ITEMS[field],) if is_tuple(value) and not value else _plain(value)


def _plain(value):
    return value.to_dict() if isinstance(value, ConfigDict) else value
