"""The fields of a config that are paths."""

import copy

from ml_collections import ConfigDict

from sicnn_jax import paths
from sicnn_jax.config.fields import stage_names

# Section → fields. Stages also have `checkpoint` and the fields of `init`.
_FIELDS = {
    'data': ('dir', 'targets'),
    'cnnr': ('file',),
    'evaluation': ('judge', 'pairs_file'),
}


def local_paths(config: ConfigDict) -> tuple[ConfigDict, list[str]]:
    """A copy with local paths, and the problems of paths that cannot be local.

    So a stored config is right for every reader, although another user's `~` is another
    directory. Names of stages and other words stay as they are.
    """
    config, problems = copy.deepcopy(config), []
    for where, section, field in _places(config):
        try:
            section[field] = paths.expand(section[field])
        except paths.PathError as error:
            problems.append(f'config.{where}.{field}: {error}.')
    return config, problems


def _places(config):
    """Yields the name of a section, the section, and its field that is a path."""
    sections = [(name, config.get(name), fields) for name, fields in _FIELDS.items()]
    for name in stage_names(config):
        init = config[name].get('init')
        sections.append((name, config[name], ('checkpoint',)))
        sections.append((f'{name}.init', init, tuple(init or ())))
    for name, section, fields in sections:
        # `check` reports a section that is missing or of another type.
        if isinstance(section, ConfigDict):
            for field in fields:
                if isinstance(section.get(field), str):
                    yield name, section, field
