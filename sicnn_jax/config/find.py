"""Finds the file of a config. It imports nothing heavy: `sicnn --help` imports it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sicnn_jax import paths
from sicnn_jax.config import ConfigError

# Places of the shipped configs: in an installed package, and in a clone.
_PACKAGE = Path(__file__).resolve().parent.parent
_ROOTS = (_PACKAGE / 'shipped', _PACKAGE.parent)


def find(value: str) -> str:
    """The file of a config: 'di:demo' → '/…/configs/di.py:demo'.

    A path (it has a slash or a suffix) is looked for in the working directory, then
    next to the package.

    Raises:
      ConfigError: there is no such file, or no config of that name ships.
    """
    try:
        value = paths.expand(value)
    except paths.PathError as error:
        raise ConfigError(f'--config={value}: {error}') from error
    name, variant = split(value)
    if os.sep in name or Path(name).suffix:
        tried = [root / name for root in (Path.cwd(), *_ROOTS)]
        problem = f'there is neither {" nor ".join(map(str, tried))}.'
    else:
        tried = [root / 'configs' / f'{name}.py' for root in _ROOTS]
        problem = (
            f'no config {name!r} ships; expected one of {", ".join(names())}, or the '
            'path of a file.'
        )
    for path in tried:
        if os.path.isfile(path):
            return f'{path}:{variant}' if variant else str(path)
    raise ConfigError(f'--config={value}: {problem}')


def names() -> list[str]:
    """Names of the shipped configs."""
    return sorted(
        {
            path.stem
            for root in _ROOTS
            for path in (root / 'configs').glob('*.py')
            # Other files hold code that several configs share.
            if 'def get_config(' in path.read_text(encoding='utf-8')
        }
    )


def make_importable() -> None:
    """Lets a config import those that ship, and `configs.common`."""
    for root in _ROOTS:
        if (root / 'configs').is_dir() and str(root) not in sys.path:
            sys.path.append(str(root))


def split(value: str) -> tuple[str, str]:
    """FILE[:VARIANT] → the file and the variant, '' for none."""
    path, colon, variant = value.rpartition(':')
    # A folder may have a colon in its name; a variant has no slash.
    return (path, variant) if colon and os.sep not in variant else (value, '')


def join_value(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command, with `--config FILE` as `--config=FILE`."""
    joined = list(arguments)
    for option in ('--config', '-config'):
        if option in joined[:-1]:
            at = joined.index(option)
            joined[at : at + 2] = [f'{option}={joined[at + 1]}']
    return joined


def given(arguments: Sequence[str]) -> list[str]:
    """The values of `--config=VALUE` among the arguments of a command."""
    return [
        value
        for option, equals, value in (each.partition('=') for each in arguments)
        if equals and option.lstrip('-') == 'config'
    ]
