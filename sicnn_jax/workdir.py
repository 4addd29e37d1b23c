"""A run on disk: its config, its stages, and the network to use.

Opening a finished run needs neither the training loop nor an optimiser.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sicnn_jax import checkpoint, command, images, packed, paths, results_file, weights

__all__ = [
    'CONFIG',
    'add_network_flags',
    'find_recognition',
    'find_stage',
    'load_cnnh',
    'makes_cnnh',
    'read_config',
    'recognition_directory',
    'shipped_config',
    'stage_directory',
    'with_earlier_stages',
    'write_config',
]

CONFIG = 'config.json'
_PREFERRED = 'domain_integrated'
_RECOGNITION = 'recognition'


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes the whole config of a run for `read_config`."""
    results_file.write_whole(workdir / CONFIG, config.to_json(indent=2).encode())


def with_earlier_stages(config: ConfigDict, workdir: Path) -> ConfigDict:
    """Adds to a config the finished or given stages of earlier commands in the workdir.

    So `config.json` has the settings of every stage, whichever stages a command names.
    """
    earlier = _find_config(workdir)
    before = earlier.get('stages', ()) if earlier else ()
    kept = [
        name
        for name in before
        if name not in config.stages
        and checkpoint.has_networks(stage_directory(earlier, name, workdir))
    ]
    if not kept:
        return config
    known = [name for name in before if name in (*kept, *config.stages)]
    new = [name for name in config.stages if name not in known]
    merged = config.copy_and_resolve_references()
    with merged.unlocked(), merged.ignore_type():
        for name in kept:
            merged[name] = earlier[name]
        merged.stages = (*known, *new)
    return merged


def read_config(workdir: Path) -> ConfigDict:
    """The config of a run.

    Raises:
      ValueError: the directory is not the workdir of a run, or its config is damaged.
    """
    workdir = paths.local(workdir)
    config = _find_config(workdir, 'data', 'scale')
    if config is None:
        raise ValueError(
            f'{workdir / CONFIG} is missing: is {workdir} the workdir of a run?'
        )
    return config


def stage_directory(config: ConfigDict, name: str, workdir: Path) -> Path:
    """The directory of a stage's networks, as its config gives it or below the workdir.

    A name that no stage of the run has is itself the directory, of another run's stage.
    """
    if name not in config:
        return Path(name)
    return Path(config[name].checkpoint or workdir / name)


def recognition_directory(config: ConfigDict, workdir: Path) -> Path | None:
    """The directory of stage 1's CNNR, finished or not; None if the config has none."""
    if _RECOGNITION not in config:
        return None
    return stage_directory(config, _RECOGNITION, workdir)


def makes_cnnh(stage: ConfigDict) -> bool:
    """Whether a stage of a config produces a CNNH, trained or fitted."""
    return 'cnnh' in stage.optimizer or stage.update_rule == 'fit'


def load_cnnh(
    source: str | os.PathLike | None, scale: int | None = None
) -> tuple[Any, dict[str, Any], Path]:
    """Loads a trained CNNH for use, not for training.

    Args:
      source, scale: as for `inference.Hallucinator`.

    Returns:
      Its parameters, the record that describes it, and its place: the stage's
      directory, or the file.

    Raises:
      CheckpointError, ValueError: as `inference.Hallucinator`.
    """
    if source is not None and scale is not None:
        raise ValueError(
            f'A scale, {scale}, is for the networks that ship, but {source} has its '
            'own: leave one of them out.'
        )
    if source is not None:
        place = find_stage(source)
    elif (scale or 8) in weights.CNNH:
        place = weights.CNNH[scale or 8]
    else:
        known = ' or '.join(map(str, weights.CNNH))
        raise ValueError(f'scale is {scale}; the networks that ship have {known}.')
    params, record = checkpoint.load_networks(place, ['cnnh'])
    _check_described(record, place)
    return params['cnnh'], record, place


def _check_described(record, place):
    """Refuses a record that does not describe CNNH and its input."""
    fields = ('convention', 'scale', 'degradation', 'models')
    missing = [field for field in fields if field not in record]
    if 'cnnh' not in record.get('models', {'cnnh': None}):
        missing = ['models.cnnh']
    if missing:
        raise checkpoint.CheckpointError(
            f'{place} has a record without {", ".join(missing)}; expected convention, '
            'scale, degradation and models. Save it again with the record of its run, '
            'or with your own record with these fields.'
        )
    checkpoint.check_record(
        record,
        {'convention': images.CONVENTION},
        str(place),
        'It was trained on other images: train it again.',
    )


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--checkpoint` and `--scale`, the arguments of `load_cnnh`, to a command."""
    parser.add_argument(
        '--checkpoint',
        type=command.path,
        help='finished stage, workdir of a run, or packed network (.safetensors); '
        'default: the network that ships',
    )
    parser.add_argument(
        '--scale',
        type=int,
        choices=tuple(weights.CNNH),
        help='scale of the network that ships: 8 (from 12×14 pixels, the default) or 4 '
        '(from 24×28)',
    )


def shipped_config(scale: int) -> ConfigDict:
    """The config of the run whose finished stages ship, for scale 8 or 4."""

    def finished(rule, network, file):
        stage = {'update_rule': rule, 'checkpoint': str(file), 'init': {}}
        return stage | {'optimizer': {network: {}}}

    evaluation = {'judge': '', 'final_faces': 0, 'final_pairs': 6_000, 'pictures': 6}
    return ConfigDict(
        {
            'scale': scale,
            'degradation': 'bicubic',
            'winograd': True,
            'data': {'source': 'records', 'dir': ''},
            'evaluation': evaluation,
            'stages': (_RECOGNITION, 'approach_ii'),
            _RECOGNITION: finished('distillation', 'cnnr', weights.CNNR),
            'approach_ii': finished('hallucination', 'cnnh', weights.CNNH[scale]),
        }
    )


def find_stage(directory: str | os.PathLike) -> Path:
    """The stage whose CNNH to use, from its own directory or the workdir of its run.

    A file of `packed` is itself a stage.

    Raises:
      CheckpointError: it is neither, or the run has no finished stage with a CNNH.
    """
    directory = paths.local(directory)
    if checkpoint.has_networks(directory) or directory.suffix == packed.SUFFIX:
        return directory
    config = _find_config(directory)
    if config is None:
        raise checkpoint.CheckpointError(
            f'{directory} is neither a finished stage nor the workdir of a run: it has '
            f'neither networks nor {CONFIG}.'
        )
    # Python sorts stably: the preferred stage, then the others from last to first.
    names = sorted(reversed(config.stages), key=lambda name: name != _PREFERRED)
    for name in names:
        stage = stage_directory(config, name, directory)
        if not checkpoint.has_networks(stage):
            continue
        if 'cnnh' in checkpoint.load_networks(stage)[0]:
            return stage
    raise checkpoint.CheckpointError(
        f'{directory} has no finished stage with a CNNH; its stages are '
        f'{", ".join(config.stages)}.'
    )


def find_recognition(stage: Path) -> Path | None:
    """The finished recognition stage of a stage's run, if there is one.

    For a CNNH that ships, it is the CNNR that ships.
    """
    if stage in weights.CNNH.values():
        return weights.CNNR
    config = _find_config(stage.parent)
    if config is None:
        return None
    directory = recognition_directory(config, stage.parent)
    return directory if directory and checkpoint.has_networks(directory) else None


def _find_config(workdir, *fields):
    path = workdir / CONFIG
    if not path.is_file():
        return None
    return ConfigDict(results_file.read_json(path, 'stages', *fields))
