"""The loop: one train state, a list of stages, hooks."""

import contextlib
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import checkpoint, images, inference, lock, parallel, paths, provenance
from sicnn_jax.config.check import check, refuse
from sicnn_jax.config.places import local_paths
from sicnn_jax.data import dataset
from sicnn_jax.descent import Metrics
from sicnn_jax.evaluation.measures import measure_hallucination, measure_recognition
from sicnn_jax.hooks import Checkpoint, Evaluate, Hook, Log, Picture, Stop
from sicnn_jax.models import Recogniser
from sicnn_jax.models.convolutions import use_winograd
from sicnn_jax.recipe import Batch
from sicnn_jax.stages import CENTROIDS, Stage, build_stage
from sicnn_jax.train_state import TrainState
from sicnn_jax.workdir import (
    recognition_directory,
    stage_directory,
    with_earlier_stages,
    write_config,
)

__all__ = [
    'centroids',
    'dispatch',
    'initial_state',
    'initialise',
    'make_hooks',
    'run',
    'train_stage',
]

# Data-dependent initialisation looks at this many faces.
_INIT_BATCH = 32


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    asked_to_stop: Callable[[], bool] | None = None,
    checked: bool = False,
    changed: str = 'refuse',
) -> None:
    """Trains every stage of the config that is not finished yet.

    A stage is skipped if its config gives a `checkpoint`, or `workdir` has its final
    one; an interrupted stage continues from its last checkpoint. Either must have been
    trained with the settings of the config.

    Args:
      config: see `sicnn_jax.config.schema`.
      workdir: everything is written below it.
      asked_to_stop: called after every step; once it is true, the state is saved.
      checked: whether `config.check` has seen the config, as after `config.load`.
      changed: one of `provenance.CHANGED`, for a stage trained with other settings.

    Raises:
      ConfigError: fields of the config contradict each other; before any training.
      CheckpointError: a stage was trained with other settings; before any training,
        except for networks that come from another stage.
      InUseError: another run is using the workdir.
      Stopped: it was asked to stop, and has saved its state.
    """
    workdir = paths.in_utf8(paths.local(workdir))
    if not checked:
        config, misplaced = local_paths(config)
        check(config, misplaced)
    stages = [build_stage(config, name, workdir) for name in config.stages]
    _check_devices(config)
    # The first of several processes keeps other runs out of the workdir.
    with lock.hold(workdir) if parallel.is_first() else contextlib.nullcontext():
        with parallel.first_before_others('data'):
            faces = dataset.open_faces(config.data, workdir)
            if parallel.is_first():
                merged = with_earlier_stages(config, workdir)
                _check_stages(merged, config.stages, faces, workdir, changed)
                write_config(merged, workdir)
        for stage in stages:
            if stage.config.checkpoint:
                print(f'[{stage.name}] given: {stage.config.checkpoint}', flush=True)
                continue
            with parallel.first_before_others(f'begin {stage.name}'):
                if parallel.is_first():
                    _check_origins(config, stage, faces, changed)
            if checkpoint.has_networks(stage.directory):
                print(f'[{stage.name}] finished already: {stage.directory}', flush=True)
                continue
            with use_winograd(config.winograd):
                train_stage(config, stage, faces, asked_to_stop, changed)
            # The next stage reads files that the first process writes.
            parallel.wait(stage.name)


def _check_stages(config, named, faces, workdir, changed):
    """Checks that the workdir's stages agree with the config before it is written.

    Only the `named` ones, those of the command, may be trained again.
    """
    for name in config.stages:
        if config[name].checkpoint:
            continue
        try:
            stage = build_stage(config, name, workdir)
        except (AttributeError, KeyError, ValueError):
            # The stages of the command are sound. This one is from a version with
            # other fields, which cannot be compared.
            continue
        record = stage.record | {'data': _describe_data(stage, faces)}
        same = provenance.compared(record, stage.networks)
        if name in named:
            provenance.admit(stage.directory, same, changed)
        else:
            provenance.admit_earlier(stage.directory, same)


def _check_origins(config, stage, faces, changed):
    """Checks that the networks of a begun stage come from the sources in the config.

    Sources that no longer exist are not checked.
    """
    if checkpoint.read_record(stage.directory) is None:
        return
    params: dict[str, Any] = {}
    there = {}
    for network, source in _sources(config, stage).items():
        if checkpoint.has_networks(source):
            params |= checkpoint.load_networks(source, [network])[0]
            there[network] = source
    record = _describe_all(stage, faces, params, there)
    same = provenance.compared(record, stage.networks)
    provenance.admit(stage.directory, same, changed)


def _sources(config, stage):
    """Directories of the stages that the networks of this one come from."""
    return {
        network: stage_directory(config, source, stage.directory.parent)
        for network, source in stage.config.init.items()
        if network in stage.networks and source and source != CENTROIDS
    }


def _check_devices(config: ConfigDict) -> None:
    """Checks that every stage fits the devices, before the first is trained."""
    devices = len(parallel.local_devices()) * parallel.process()[1]
    problems = []
    for name in config.stages:
        stage = config[name]
        parts = f'{devices} devices'
        if stage.microbatches > 1:
            parts += f', {stage.microbatches} microbatches on each'
        fits = stage.batch_size % (devices * stage.microbatches) == 0
        if not (stage.checkpoint or fits):
            problems.append(
                f'config.{name}.batch_size is {stage.batch_size}; expected a multiple '
                f'of the {parts}.'
            )
    refuse(problems)


def train_stage(
    config: ConfigDict,
    stage: Stage,
    faces: dataset.Faces,
    asked_to_stop: Callable[[], bool] | None = None,
    changed: str = 'refuse',
) -> None:
    """Trains one stage to its end, from its last checkpoint if there is one.

    Raises:
      CheckpointError: that checkpoint is of other settings or data and `changed`, as
        in `run`, does not allow it, or it is beyond the last step.
      NonFiniteError: a loss or gradient was not finite.
      Stopped: it was asked to stop, and has saved its state.
    """
    index, count = parallel.process()
    state = initial_state(config, stage, faces)
    checkpoints = None
    if parallel.is_first():
        record = _describe_all(stage, faces, state.params, _sources(config, stage))
        same = provenance.compared(record, stage.networks)
        if changed == 'continue':
            del same['settings']
        checkpoints = checkpoint.Checkpoints(stage.directory, record, same)
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(state)
    state = parallel.from_first(state)
    start = int(state.step)
    if start > stage.config.steps:
        raise checkpoint.CheckpointError(
            f'{stage.directory} is at step {start}, but config.{stage.name}.steps is '
            f'{stage.config.steps}; expected at least {start}, or another --workdir.'
        )
    if checkpoints:
        print(_headline(stage, state, start), flush=True)

    together = 1 if stage.rule.fits else config.steps_per_dispatch
    update = dispatch(stage, faces.to_hr, together)
    batches = parallel.prefetch(
        faces.train_batches(
            batch_size=stage.config.batch_size,
            seed=_data_seed(config, stage),
            start_step=start,
            process_index=index,
            process_count=count,
        ),
        together=together,
    )
    split = stage.recipe.split_identities
    whole = functools.partial(
        parallel.to_host, num_identities=faces.num_identities if split else None
    )
    hooks: list[Hook] = []
    if checkpoints:
        hooks += make_hooks(config, stage, faces, checkpoints, start)
    if checkpoints or split:
        every, last = stage.config.checkpoint_every, stage.config.steps
        hooks.append(Checkpoint(every, last, checkpoints, stage.config.best, whole))
    if asked_to_stop:
        logs = [hook.keep for hook in hooks if isinstance(hook, Log)]
        hooks.append(Stop(parallel.any_asked(asked_to_stop), checkpoints, whole, logs))
    on_devices = parallel.to_devices(state, split_identities=split)
    resident = parallel.replicate(faces.resident)
    for step in range(start + together, stage.config.steps + 1, together):
        on_devices, metrics = update(on_devices, next(batches), resident)
        metrics = {'step': metrics}
        for hook in hooks:
            hook(step, on_devices, metrics)
    params = whole(on_devices).params
    if checkpoints:
        checkpoints.close()
        checkpoint.save_networks(stage.directory, params, checkpoints.record)


def _describe_data(stage, faces):
    """The faces and people that a stage is trained on, and its teacher."""
    data = {
        'alignment': faces.alignment,
        'num_identities': faces.num_identities,
        'fingerprint': faces.fingerprint,
    }
    if stage.rule.taught and faces.targets is not None:
        data['teacher'] = faces.targets.teacher
    return data


def _describe_all(stage, faces, params, sources):
    """The record of a stage's checkpoints; `params` include those of the `sources`."""
    record = stage.record | {'data': _describe_data(stage, faces)}
    given = checkpoint.describe_origins(params, sources, stage.directory)
    frozen = {name: given[name] for name in given if name not in stage.rule.makes}
    if frozen:
        record['frozen'] = frozen
    # The other networks begin from the seed or the faces.
    init = stage.config.init.items()
    begun = {name: source for name, source in init if source in ('', CENTROIDS)}
    begun |= given
    begun = {name: begun[name] for name in begun if name in stage.rule.makes}
    return record | {'init': begun}


def initial_state(config: ConfigDict, stage: Stage, faces: dataset.Faces) -> TrainState:
    """State at step 0: networks of earlier stages, and the others initialised.

    Raises:
      CheckpointError: an earlier stage is not finished, or was trained with other
        images, networks or identities.
      ValueError: the teacher's targets have another length than CNNR's features.
    """
    if stage.rule.taught and 'head' not in stage.rule.trains:
        _check_teacher(stage, faces.targets)
    params: dict[str, Any] = {}
    for network in stage.networks:
        source = stage.config.init[network]
        if source == CENTROIDS:
            params[network] = centroids(stage.recipe.cnnr, params['cnnr'], faces)
        elif source:
            params[network] = _load(config, stage, source, network, faces)
        else:
            params[network] = initialise(config, stage, network, faces)
    return TrainState.create(params, stage.recipe.optimizers)


def make_hooks(
    config: ConfigDict,
    stage: Stage,
    faces: dataset.Faces,
    checkpoints: checkpoint.Checkpoints,
    start: int,
) -> list[Hook]:
    """The hooks that evaluate, log and draw; those that save come after them."""
    every, last = stage.config.evaluate_every, stage.config.steps
    size, seed = stage.config.batch_size, _data_seed(config, stage)
    log = Log(
        stage.name,
        stage.directory,
        every=config.log_every,
        start=start,
        last=last,
        batch_size=size,
        checkpoints=checkpoints,
        patience=config.nonfinite_steps,
        keys=lambda step: faces.batch_keys(batch_size=size, seed=seed, step=step - 1),
    )
    hr, labels = faces.test_faces(config.evaluation.faces)
    if not len(hr):
        print(
            f"[{stage.name}] the data have no split 'test': nothing is evaluated, and "
            'no best checkpoint is kept',
            flush=True,
        )
        return [log]
    if 'cnnh' not in stage.rule.makes:
        measure = measure_recognition(
            stage.recipe.cnnr, hr, labels, num_pairs=config.evaluation.pairs
        )
        return [Evaluate(every, last, measure), log]
    reference = _reference(config, stage.directory.parent)
    measure = measure_hallucination(stage.recipe, hr, reference)
    # At most one face per identity.
    _, first = np.unique(labels, return_index=True)
    drawn = hr[np.sort(first)[: config.evaluation.pictures]]
    picture = Picture(every, last, stage.directory / 'samples', stage.recipe, drawn)
    return [Evaluate(every, last, measure), log, picture]


def dispatch(
    stage: Stage, to_hr: Callable[[dict[str, Any]], Batch], together: int = 1
) -> Callable:
    """An iteration of a stage, or several in one program, mapped over devices.

    Args:
      stage: whose iteration it is.
      to_hr: batch and resident arrays → HR and labels, on the device, such as
        `faces.to_hr`.
      together: iterations per call.

    Returns:
      (state, batch, resident) → (state, metrics). State and `faces.resident` are
      replicated; the batch is from `faces` and sharded. With `together` above 1, batch
      and metrics are stacks of that many. The state is donated.
    """

    def one(program, state, batch, resident):
        return program(stage.recipe, state, to_hr({**batch, **resident}))

    def several(program, state, batches, resident):
        return jax.lax.scan(
            lambda state, batch: one(program, state, batch, resident), state, batches
        )

    whole = one if together == 1 else several
    updates = [
        parallel.map_over_devices(functools.partial(whole, program))
        for program in stage.rule.iteration(fused=stage.config.get('fused', False))
    ]

    def update(state, batch, resident):
        metrics: Metrics = {}
        for each in updates:
            state, more = each(state, batch, resident)
            metrics |= more
        return state, metrics

    return update


def _load(config, stage, source, network, faces):
    directory = stage_directory(config, source, stage.directory.parent)
    params, found = checkpoint.load_networks(directory, [network])
    agree = functools.partial(checkpoint.check_record, where=str(directory))
    model = 'cnnr' if network in ('class_weights', 'head') else network
    # CNNR takes faces of a single size, wherever they come from.
    sizes = () if model == 'cnnr' else ('scale', 'degradation')
    agree(found, {field: stage.record[field] for field in ('convention', *sizes)})
    agree(found.get('models', {}), {model: stage.record['models'][model]})
    if network == 'class_weights':
        agree(found.get('data', {}), {'num_identities': faces.num_identities})
    return params[network]


def initialise(
    config: ConfigDict, stage: Stage, network: str, faces: dataset.Faces
) -> Any:
    """Fresh parameters of a network, the same on every process, as host arrays.

    They are initialised or, if the stage's rule says so, fitted to training faces.
    """
    key = jax.random.key(config.seed)
    if network == 'class_weights':
        shape = (stage.recipe.cnnr.feature_dim, faces.num_identities)
        weights = np.asarray(jax.random.normal(key, shape)) / np.sqrt(shape[0])
        # NumPy's square root is float64, and would make the quotient float64 as well.
        return weights.astype(np.float32)
    if network == 'head':
        assert faces.targets is not None
        shape = (stage.recipe.cnnr.feature_dim, faces.targets.size)
        kernel = np.asarray(jax.random.normal(key, shape)) / np.float32(shape[0] ** 0.5)
        return {'kernel': kernel}
    model = getattr(stage.recipe, network)
    fitted = network in stage.rule.fits
    count = model.num_faces if fitted else _INIT_BATCH
    x = hr = _first_faces(config, stage, faces, count)
    if fitted and network == 'cnnr':
        return model.fit(hr)
    if network == 'cnnh':
        x = inference.degrade_faces(hr, scale=config.scale, kind=config.degradation)
    if fitted:
        return model.fit(x, hr)
    # It runs once; compiling a better program would cost many times what it saves.
    init = jax.jit(model.init, compiler_options={'xla_backend_optimization_level': 1})
    return jax.tree.map(np.asarray, init(key, images.to_float(x))['params'])


def centroids(cnnr: Recogniser, params: Any, faces: dataset.Faces) -> np.ndarray:
    """Class weights from CNNR: the mean direction of each identity's features.

    Args:
      cnnr, params: recognition network and its parameters.
      faces: their training split is used, all of it.

    Returns:
      float32 [feature_dim, num_identities], columns of norm 1.

    Raises:
      DatasetError: the faces cannot be read.
    """
    total = np.zeros((faces.num_identities, cnnr.feature_dim), np.float32)
    for hr, labels in faces.train_faces():
        features = inference.extract_features(cnnr, params, hr)
        np.add.at(total, labels, _unit(features))
    return _unit(total).T.copy()


def _unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _check_teacher(stage, targets):
    """Checks that the teacher's features are as long as CNNR's."""
    size = stage.recipe.cnnr.feature_dim
    if size != targets.size:
        raise ValueError(
            f"config.{stage.name}: CNNR's features have {size} numbers, the teacher's "
            f'have {targets.size}: set config.cnnr.feature_dim to {targets.size}, '
            "or use the rule 'distillation_by_head'."
        )


def _first_faces(config, stage, faces, count):
    """The first faces of a stage's training, uint8 [count, 112, 96, 3]."""
    to_hr = jax.jit(lambda batch: faces.to_hr(batch)['hr'])
    seed = _data_seed(config, stage)
    batches = faces.train_batches(batch_size=_INIT_BATCH, seed=seed)
    needed = itertools.islice(batches, -(-count // _INIT_BATCH))
    hr = [np.asarray(to_hr({**batch, **faces.resident})) for batch in needed]
    return np.concatenate(hr)[:count]


def _data_seed(config, stage):
    """The seed of the order of a stage's faces, in the range that TensorFlow takes."""
    return (config.seed * 1000 + stage.config.data_seed) % 2**32


def _reference(config, workdir):
    """CNNR of stage 1, by which identity similarity is measured; None if unknown."""
    directory = recognition_directory(config, workdir)
    if directory is None or not checkpoint.has_networks(directory):
        return None
    return checkpoint.load_networks(directory, ['cnnr'])[0]['cnnr']


def _headline(stage, state, start):
    sizes = ', '.join(
        f'{name} {sum(leaf.size for leaf in jax.tree.leaves(params)):,}'
        for name, params in state.params.items()
    )
    begins = f'continues at step {start} of' if start else 'begins:'
    return (
        f'[{stage.name}] {begins} {stage.config.steps} steps of '
        f'{stage.config.batch_size} faces on {len(parallel.local_devices())} '
        f'device(s) of {parallel.process()[1]} process(es); parameters: {sizes}'
    )
