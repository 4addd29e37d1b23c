"""Finds everything that is wrong with a config at once, before any device starts.

A run calls `check` once. It compares the fields with those of `schema` (`fields`), then
looks for values that are impossible alone or together, and then builds each stage. By
then, integers are known to be 0 or more.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sicnn_jax import images, losses, models
from sicnn_jax.config import ConfigError
from sicnn_jax.config.fields import (
    did_you_mean,
    field_problems,
    is_stage,
    is_tuple,
    none_of,
    stage_names,
)
from sicnn_jax.data import dataset, runtime
from sicnn_jax.evaluation.methods import LEARNED, TITLES
from sicnn_jax.optimizers import make_optimizer
from sicnn_jax.rules import RULES
from sicnn_jax.stages import CENTROIDS, build_stage
from sicnn_jax.terms import IDENTITY_TERMS

# Labels are int32.
_LARGEST_LABEL = 2**31 - 1
_SIZES = 'widths', 'feature_dim', 'width', 'growth', 'deconv_width', 'kernel_size'
# Levels of CNNR, Table 1.
_LEVELS = 4
# The smallest kernel of a deconvolution of stride 2.
_LEAST_KERNEL = 2
# Names of methods and of faces, which no stage may have except a method's own.
_OTHERS = {*TITLES} - {each.stage for each in LEARNED.values()}


def refuse(problems: Iterable[str]) -> None:
    """Raises a ConfigError that lists all problems, unless there are none."""
    problems = list(dict.fromkeys(problems))
    if len(problems) == 1:
        raise ConfigError(problems[0])
    if problems:
        listed = '\n'.join(f'  - {problem}' for problem in problems)
        raise ConfigError(f'{len(problems)} things are wrong:\n{listed}')


def check(config: ConfigDict, others: Iterable[str] = ()) -> None:
    """Raises a ConfigError with everything that is wrong, including `others`."""
    refuse([*others, *find_problems(config)])


def find_problems(config: ConfigDict) -> list[str]:
    """Everything that is wrong with a config by itself."""
    problems, mended = field_problems(config)
    found = combination_problems(mended)
    # These are clearer than the error of a stage that they break.
    return [*problems, *found] or [
        f'config.{name}: {problem}'
        for name in mended.stages
        for problem in _raised(build_stage, mended, name, Path('unused'))
    ]


def combination_problems(config: ConfigDict) -> list[str]:
    """Impossible values, alone or together, of a config from `field_problems`."""
    problems = [
        *_choices(config),
        *_network_problems(config),
        *_data_problems(config.data),
        *_raised(
            losses.recognition_loss,
            config.recognition_loss.name,
            **config.recognition_loss.get(config.recognition_loss.name, {}),
        ),
    ]
    if not config.stages:
        problems.append('config.stages is empty; expected at least one stage.')
    for position, name in enumerate(config.stages):
        if not is_stage(config, name):
            problems.append(
                f'config.stages names {name!r}, but there is no config.{name}.'
                + did_you_mean(name, stage_names(config))
            )
        elif name in config.stages[:position]:
            problems.append(f'config.stages names {name!r} twice.')
        else:
            problems += _stage_problems(config, name)
    return problems


def _choices(config: ConfigDict) -> Iterator[str]:
    allowed = {'scale': models.LR_SHAPES, 'degradation': images.DEGRADATIONS}
    for field, choices in allowed.items():
        if config[field] not in choices:
            yield none_of(f'config.{field}', config[field], choices) + did_you_mean(
                str(config[field]), map(str, choices)
            )
    for field in ('log_every', 'steps_per_dispatch', 'nonfinite_steps'):
        if config[field] < 1:
            yield f'config.{field} is {config[field]}; expected at least 1.'


def _network_problems(config: ConfigDict) -> Iterator[str]:
    for network in ('cnnr', 'cnnh', 'discriminator'):
        for field in _SIZES:
            value = config.get(network, {}).get(field, 1)
            sizes = value if is_tuple(value) else [value]
            if not all(isinstance(size, int) and size >= 1 for size in sizes):
                yield f'config.{network}.{field} is {value}; expected at least 1.'
    for field in ('widths', 'depths'):
        if len(config.cnnr.get(field, range(_LEVELS))) != _LEVELS:
            yield (
                f'config.cnnr.{field} is {config.cnnr[field]}; expected one number for '
                f'each of the {_LEVELS} levels.'
            )
    kind = config.cnnr.get('kind')
    if kind not in models.RECOGNISERS:
        yield none_of('config.cnnr.kind', kind, models.RECOGNISERS)
    if kind == 'onnx':
        yield from _raised(models.check_file, json.loads(config.cnnr.to_json()))
    groups = range(1, models.DlibResNet.num_groups + 1)
    if kind == 'dlib' and not {*config.cnnr.get('activations', ())} <= {*groups}:
        yield (
            f'config.cnnr.activations is {config.cnnr.activations}; expected numbers '
            f"of groups of dlib's network, 1 to {groups[-1]}."
        )
    for field, count in models.CNNH_SIZES.items():
        value = config.cnnh.get(field)
        if is_tuple(value) and len(value) != count:
            yield (
                f'config.cnnh.{field} is {value}; expected one number, or {count} of '
                'them (see sicnn_jax/config/schema.py).'
            )
    kernels = config.cnnh.get('deconv_kernels', (3, 5, 5))
    if len(kernels) != models.STAGES or min(kernels) < _LEAST_KERNEL:
        yield (
            f'config.cnnh.deconv_kernels is {kernels}; expected {models.STAGES} sizes, '
            f'one for each doubling, of {_LEAST_KERNEL} or more.'
        )


def _data_problems(config: ConfigDict) -> Iterator[str]:
    """Values of `config.data` that are impossible, alone or together."""
    for field, choices in (
        ('source', dataset.SOURCES),
        ('placement', dataset.PLACEMENTS),
        ('on_error', dataset.ON_ERROR),
    ):
        if config[field] not in choices:
            yield none_of(f'data.{field}', config[field], choices)
    if config.source == 'records' and not config.dir:
        yield (
            "data.source is 'records' but data.dir is empty: set "
            '--config.data.dir to a directory made by sicnn_jax.data.prepare.'
        )
    if config.source in dataset.SOURCES and config.source != 'procedural':
        for problem in _raised(runtime.check_tensorflow):
            yield (
                f'data.source is {config.source!r}. {problem} Or render the faces as '
                'they are needed: --config.data.source=procedural.'
            )
    if config.source == 'procedural' and config.placement == 'device':
        yield (
            "data.placement is 'device', but data.source 'procedural' is rendered "
            "there in each step: set data.source to 'embedded', or data.placement to "
            "'host'."
        )
    if config.targets and (config.source, config.placement) != ('records', 'device'):
        yield (
            f'data.targets is {config.targets!r}, which is for shards held on the '
            "device: set data.source to 'records' and data.placement to 'device'."
        )
    for field in (
        'identities',
        'images_per_identity',
        'test_identities',
        'test_images_per_identity',
    ):
        if config.source != 'records' and config[field] < 1:
            yield f'data.{field} is {config[field]}; expected at least 1.'
    if config.identities + config.test_identities > _LARGEST_LABEL:
        yield (
            f'data.identities and data.test_identities are {config.identities:,} and '
            f'{config.test_identities:,}; labels are int32, so expected no more than '
            f'{_LARGEST_LABEL:,} in all.'
        )
    for field, limit in {**dataset.AUGMENTATION, 'max_error_share': 1}.items():
        if not 0 <= config[field] < limit:
            yield (
                f'data.{field} is {config[field]}; expected at least 0 and less than '
                f'{limit}.'
            )
    misalignment = config.misalignment
    if not 0 <= misalignment <= 1:
        yield f'data.misalignment is {misalignment}; expected a number from 0 to 1.'
    if misalignment and config.source == 'records':
        yield (
            f"data.misalignment is {misalignment}, but data.source is 'records', whose "
            'faces are as they were prepared: set it to 0.'
        )


def _stage_problems(config: ConfigDict, name: str) -> Iterator[str]:
    stage = config[name]
    rule = RULES[stage.update_rule]
    if name in _OTHERS:
        yield f'config.{name}: {name!r} is the name of other faces; expected another.'
    if 'discriminator' in rule.trains and 'discriminator' not in config:
        yield (
            f'config.discriminator is missing; the rule {stage.update_rule!r} trains '
            'it: set it to sicnn_jax.config.schema.discriminator().'
        )
    if rule.taught and not config.data.targets and not stage.checkpoint:
        yield (
            f'config.data.targets is empty, but config.{name} is of the rule '
            f'{stage.update_rule!r}: set it to a file that python -m '
            'sicnn_jax.describe writes.'
        )
    for network in stage.optimizer:
        if network not in rule.trains:
            yield (
                f'config.{name}.optimizer.{network} is of a network that the rule '
                f'{stage.update_rule!r} does not train: expected '
                f'{", ".join(rule.trains) or "none"}.'
            )
    for field in ('steps', 'batch_size', 'microbatches'):
        if stage[field] < 1:
            yield f'config.{name}.{field} is {stage[field]}; expected at least 1.'
    if stage.get('identity_loss', IDENTITY_TERMS[0]) not in IDENTITY_TERMS:
        where = f'config.{name}.identity_loss'
        yield none_of(where, stage.identity_loss, IDENTITY_TERMS)
    if stage.get('perceptual_weight') and 'depths' not in config.cnnr:
        if not config.cnnr.get('activations'):
            yield (
                f'config.{name}.perceptual_weight is {stage.perceptual_weight}, but '
                'config.cnnr.activations names nothing to compare: expected outputs of '
                'nodes (cnnr.kind onnx) or numbers of groups (dlib).'
            )
    elif stage.get('perceptual_weight') and not all(config.cnnr.depths[1::2]):
        yield (
            f'config.{name}.perceptual_weight is {stage.perceptual_weight}, but '
            f'config.cnnr.depths is {config.cnnr.depths}; expected at least 1 in the '
            'second and the last level, whose residual blocks the loss compares.'
        )
    for field in ('alpha', 'beta', 'identity_blur'):
        if stage.get(field, 0) < 0:
            yield f'config.{name}.{field} is {stage[field]}; it must not be negative.'
    yield from _period_problems(config, name)
    yield from (
        f'config.{name}: {problem}'
        for problem in _raised(losses.annealing_schedule, **stage.get('annealing', {}))
    )
    for network, optimizer in stage.optimizer.items():
        where = f'config.{name}.optimizer.{network}'
        if optimizer.learning_rate <= 0:
            yield (
                f'{where}.learning_rate is {optimizer.learning_rate}; expected more '
                'than 0.'
            )
        yield from (
            f'{where}: {problem}'
            for problem in _raised(make_optimizer, optimizer, max(stage.steps, 1))
        )
    for network, source in stage.init.items():
        if (network, source) != ('class_weights', CENTROIDS):
            yield from _source_problems(config, f'config.{name}.init.{network}', source)


def _period_problems(config, name):
    """Checks that periodic actions fall on the end of a dispatch."""
    stage = config[name]
    periods = [
        (f'{name}.checkpoint_every', stage.checkpoint_every, 'log_every'),
        (f'{name}.evaluate_every', stage.evaluate_every, 'log_every'),
        ('log_every', config.log_every, 'steps_per_dispatch'),
    ]
    # Fitting takes one step.
    if not RULES[stage.update_rule].fits:
        periods.append((f'{name}.steps', stage.steps, 'steps_per_dispatch'))
    for field, value, every in periods:
        if config[every] > 0 and value % config[every]:
            yield (
                f'config.{field} is {value}; expected a multiple of config.{every}, '
                f'{config[every]}.'
            )


def _source_problems(config, where, source):
    """Checks a source: days later, a mistyped stage would be taken for a directory."""
    if not source or is_stage(config, source) or Path(source).name != source:
        return
    # Unlike `Path.exists`, this also works for a name that no file can have.
    if not os.path.exists(source):
        yield (
            f'{where} is {source!r}, which is not a stage, directory or file.'
            + did_you_mean(source, stage_names(config))
        )


def _raised(function: Callable, *arguments: Any, **settings: Any) -> list[str]:
    """The error that a function raises for its arguments, if any."""
    try:
        function(*arguments, **settings)
    except (KeyError, TypeError, ValueError) as error:
        return [str(error)]
    return []
