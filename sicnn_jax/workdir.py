"""A run on disk: its config, its stages, and which network is the one to use.

Whoever opens a finished run needs neither the loop nor an optimiser.
"""

import json
import os
from pathlib import Path

from ml_collections import ConfigDict

from sicnn_jax import checkpoint

CONFIG = 'config.json'

_PREFERRED = 'domain_integrated'
_RECOGNITION = 'recognition'


def read_config(workdir: Path) -> ConfigDict:
    """The config of a run.

    Raises:
      ValueError: the directory is not the workdir of a run.
    """
    config = _find_config(workdir)
    if config is None:
        raise ValueError(
            f'{workdir / CONFIG} is missing: is {workdir} the workdir of a run?'
        )
    return config


def stage_directory(config: ConfigDict, name: str, workdir: Path) -> Path:
    """Where a stage's networks are.

    Args:
      config: of the run.
      name: of one of its stages, or the directory of a stage of another run.
      workdir: of the run.

    Returns:
      The directory that the stage's config gives, else one below the workdir.
    """
    if name not in config:
        return Path(name)
    return Path(config[name].checkpoint or workdir / name)


def recognition_directory(config: ConfigDict, workdir: Path) -> Path | None:
    """Where the CNNR of stage 1 is, which measures identity similarity.

    Returns:
      The directory, finished or not; None where the config has no such stage.
    """
    if _RECOGNITION not in config:
        return None
    return stage_directory(config, _RECOGNITION, workdir)


def makes_cnnh(stage: ConfigDict) -> bool:
    """Whether a stage of a config ends with a CNNH that it trained or fitted."""
    return 'cnnh' in stage.optimizer or stage.update_rule == 'fit'


def find_stage(directory: str | os.PathLike) -> Path:
    """The stage whose CNNH is meant by a stage's directory or a run's workdir.

    Raises:
      CheckpointError: it is neither, or the run has no finished stage with a CNNH.
    """
    directory = Path(directory)
    if checkpoint.has_networks(directory):
        return directory
    config = _find_config(directory)
    if config is None:
        raise checkpoint.CheckpointError(
            f'{directory} is neither a finished stage nor the workdir of a run: it has '
            f'neither networks nor {CONFIG}.'
        )
    # Python sorts stably: the stages from the last to the first, but that one first.
    names = sorted(reversed(config.stages), key=lambda name: name != _PREFERRED)
    for name in names:
        stage = stage_directory(config, name, directory)
        if _has_cnnh(stage):
            return stage
    raise checkpoint.CheckpointError(
        f'{directory} has no finished stage with a CNNH; its stages are '
        f'{", ".join(config.stages)}.'
    )


def find_recognition(stage: Path) -> Path | None:
    """The finished recognition stage of the run that a stage is of, if there is one."""
    config = _find_config(stage.parent)
    if config is None:
        return None
    directory = recognition_directory(config, stage.parent)
    return directory if directory and checkpoint.has_networks(directory) else None


def _find_config(workdir):
    path = workdir / CONFIG
    return ConfigDict(json.loads(path.read_text())) if path.is_file() else None


def _has_cnnh(stage):
    return (
        checkpoint.has_networks(stage) and 'cnnh' in checkpoint.load_networks(stage)[0]
    )
