"""Fields of a config that are paths."""

import copy

from ml_collections import ConfigDict

from sicnn_jax import paths
from sicnn_jax.config.fields import is_stage

# SECTION, FIELD. Those of stages are `checkpoint`, and what `init` has.
_FIELDS = (
    ('data', 'dir'),
    ('data', 'targets'),
    ('cnnr', 'file'),
    ('evaluation', 'judge'),
    ('evaluation', 'pairs_file'),
)


def local_paths(config: ConfigDict) -> tuple[ConfigDict, list[str]]:
    """A copy with paths as this machine has them, and what is wrong with the others.

    So a run's config says where things are whoever reads it: `~` is another directory
    for another user. Names of stages and the like stay as they are.
    """
    config, problems = copy.deepcopy(config), []
    for where, section, field in _places(config):
        try:
            section[field] = paths.expand(section[field])
        except paths.PathError as error:
            problems.append(f'config.{where}.{field}: {error}.')
    return config, problems


def _places(config):
    """Where there is a path: the name of its section, the section and the field."""
    sections = [(name, config.get(name), [field]) for name, field in _FIELDS]
    for name in config:
        if is_stage(config, name):
            sections.append((name, config[name], ['checkpoint']))
            init = config[name].get('init')
            sections.append((f'{name}.init', init, [*(init or ())]))
    for name, section, fields in sections:
        # What is of another type, or missing, `check` says.
        if isinstance(section, ConfigDict):
            for field in fields:
                if isinstance(section.get(field), str):
                    yield name, section, field
