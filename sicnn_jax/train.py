"""The loop: one train state, a list of stages, hooks."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import (
    checkpoint,
    config_check,
    images,
    inference,
    losses,
    models,
    parallel,
    results_file,
    steps,
)
from sicnn_jax.data import dataset
from sicnn_jax.hooks import (
    Checkpoint,
    Evaluate,
    Hook,
    Log,
    Picture,
    Stop,
    measure_hallucination,
    measure_recognition,
)
from sicnn_jax.models.convolution import use_winograd
from sicnn_jax.optimizers import make_optimizer
from sicnn_jax.train_state import TrainState

# Faces that data-dependent initialisation looks at.
_INIT_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage ready to train: what it updates, with what, for how long."""

    name: str
    directory: Path
    config: ConfigDict
    method: steps.Method
    update: steps.Update
    record: dict[str, Any]

    @property
    def networks(self) -> tuple[str, ...]:
        return (*self.update.trained, *self.update.fitted, *self.update.frozen)


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    asked_to_stop: Callable[[], bool] | None = None,
) -> None:
    """Trains every stage of the config that is not finished yet.

    A stage is skipped where its config gives a `checkpoint`, or `workdir` holds its
    final one; an interrupted one continues from its last checkpoint.

    Args:
      config: see `configs/common.py`.
      workdir: everything is written below it.
      asked_to_stop: called after every step; once it is true, the state is saved.

    Raises:
      ConfigError: the config does not fit together; before anything is trained.
      Stopped: it was asked to stop, and has saved its state.
    """
    stages = check(config, workdir)
    _check_devices(config)
    with parallel.first_before_others('data'):
        if parallel.is_first():
            text = config.to_json(indent=2)
            results_file.write_whole(workdir / 'config.json', text.encode())
        faces = dataset.open_faces(config.data, workdir)
    for stage in stages:
        if stage.config.checkpoint:
            print(f'[{stage.name}] given: {stage.config.checkpoint}', flush=True)
        elif checkpoint.has_networks(stage.directory):
            print(f'[{stage.name}] finished already: {stage.directory}', flush=True)
        else:
            with use_winograd(config.winograd):
                train_stage(config, stage, faces, asked_to_stop)
            # The next one begins with what the first process writes.
            parallel.wait(stage.name)


def check(config: ConfigDict, workdir: Path) -> list[Stage]:
    """All stages of a config, put together; touches no device.

    Raises:
      ConfigError: with everything that is wrong.
    """
    problems = config_check.combination_problems(config)
    stages = []
    for name in config.stages:
        try:
            stages.append(build_stage(config, name, workdir))
        except (KeyError, TypeError, ValueError) as error:
            # What was found above may be why; it says more.
            if not problems:
                problems.append(f'config.{name}: {error}')
    config_check.refuse(problems)
    return stages


def _check_devices(config: ConfigDict) -> None:
    """That every stage fits the devices, before the first is trained."""
    processes = parallel.process()[1]
    devices = len(parallel.local_devices()) * processes
    problems = []
    for name in config.stages:
        stage = config[name]
        if stage.checkpoint:
            continue
        parts = f'{devices} devices'
        if stage.microbatches > 1:
            parts += f', {stage.microbatches} microbatches on each'
        if stage.batch_size % (devices * stage.microbatches):
            problems.append(
                f'config.{name}.batch_size is {stage.batch_size}; expected a multiple '
                f'of the {parts}.'
            )
    config_check.refuse(problems)


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


def build_stage(config: ConfigDict, name: str, workdir: Path) -> Stage:
    """Puts a stage together and checks its config.

    Raises:
      ValueError: a field is unknown or does not go with others, or the stage lacks a
        network.
    """
    if name not in config:
        raise ValueError(
            f'config.stages names {name!r}, but there is no config.{name}.'
        )
    stage = config[name]
    update = steps.find_update(
        stage.update_rule,
        stage.alpha,
        perceptual_weight=stage.perceptual_weight,
        fused=stage.fused,
    )
    adversarial = 'discriminator' in update.trained
    described = ('cnnr', 'cnnh', 'discriminator') if adversarial else ('cnnr', 'cnnh')
    record = {
        'convention': images.CONVENTION,
        'scale': config.scale,
        'degradation': config.degradation,
        'models': {name: json.loads(config[name].to_json()) for name in described},
    }
    # As the records of before there were other kinds.
    if record['models']['cnnh']['kind'] == 'cnnh':
        del record['models']['cnnh']['kind']
    split = config.recognition_loss.split_identities
    cnnh = models.cnnh_from(record)
    _check_rule(config, name, cnnh, update)
    _check_weights(stage, name)
    method = steps.Method(
        cnnr=models.cnnr_from(record),
        cnnh=cnnh,
        optimizers={
            network: make_optimizer(stage.optimizer[network], stage.steps)
            for network in update.trained
        },
        recognition_loss=_recognition_loss(config.recognition_loss),
        annealing=losses.annealing_schedule(**stage.annealing),
        scale=config.scale,
        degradation=config.degradation,
        alpha=stage.alpha,
        identity_loss=stage.identity_loss,
        beta=stage.beta,
        loss_scale=stage.loss_scale,
        split_identities=split,
        sampled_identities=config.recognition_loss.sampled_identities,
        discriminator=models.discriminator_from(record) if adversarial else None,
        adversarial_weight=stage.adversarial_weight,
        perceptual_weight=stage.perceptual_weight,
        microbatches=stage.microbatches,
    )
    if config.steps_per_dispatch > 1 and len(update.programs) > 1:
        raise ValueError(
            f'config.steps_per_dispatch is {config.steps_per_dispatch}, but '
            f'config.{name} dispatches each half of an iteration by itself: set '
            f'config.{name}.fused to True.'
        )
    for network in update.frozen:
        if not stage.init[network]:
            raise ValueError(
                f'config.{name}.init has no {network!r}, which '
                f'{stage.update_rule} only reads: say from which stage it comes.'
            )
    return Stage(name, workdir / name, stage, method, update, record)


def train_stage(
    config: ConfigDict,
    stage: Stage,
    faces: dataset.Faces,
    asked_to_stop: Callable[[], bool] | None = None,
) -> None:
    """Trains one stage to its end, from its last checkpoint if there is one.

    Raises:
      NonFiniteError: a loss or gradient was not finite.
      Stopped: it was asked to stop, and has saved its state.
    """
    index, count = parallel.process()
    record = stage.record | {
        'data': {
            'alignment': faces.alignment,
            'num_identities': faces.num_identities,
            'fingerprint': faces.fingerprint,
        }
    }
    state = initial_state(config, stage, faces)
    checkpoints = None
    if parallel.is_first():
        checkpoints = checkpoint.Checkpoints(stage.directory, record)
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(state)
    state = parallel.from_first(state)
    start = int(state.step)
    if checkpoints:
        print(_headline(stage, state, start), flush=True)

    together = config.steps_per_dispatch
    update = dispatch(stage, faces, together)
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
    whole = functools.partial(fetch, stage.method, faces.num_identities)
    hooks: list[Hook] = []
    if checkpoints:
        hooks += make_hooks(config, stage, faces, checkpoints, start)
    if checkpoints or stage.method.split_identities:
        every, last = stage.config.checkpoint_every, stage.config.steps
        hooks.append(Checkpoint(every, last, checkpoints, stage.config.best, whole))
    if asked_to_stop:
        logs = [hook.keep for hook in hooks if isinstance(hook, Log)]
        hooks.append(Stop(parallel.any_asked(asked_to_stop), checkpoints, whole, logs))
    on_devices = place(stage.method, state)
    resident = parallel.replicate(faces.resident)
    for step in range(start + together, stage.config.steps + 1, together):
        on_devices, metrics = update(on_devices, next(batches), resident)
        metrics = {'step': metrics}
        for hook in hooks:
            hook(step, on_devices, metrics)
    params = whole(on_devices).params
    if checkpoints:
        checkpoints.close()
        checkpoint.save_networks(stage.directory, params, record)


def initial_state(config: ConfigDict, stage: Stage, faces: dataset.Faces) -> TrainState:
    """State at step 0: networks of earlier stages, the rest initialised.

    Raises:
      CheckpointError: an earlier stage is not finished, or was trained on other
        images, networks or identities.
    """
    params = {}
    for network in stage.networks:
        source = stage.config.init[network]
        if source:
            params[network] = _load(config, stage, source, network, faces)
        else:
            params[network] = initialise(config, stage, network, faces)
    return TrainState.create(params, stage.method.optimizers)


def make_hooks(
    config: ConfigDict,
    stage: Stage,
    faces: dataset.Faces,
    checkpoints: checkpoint.Checkpoints,
    start: int,
) -> list[Hook]:
    """Evaluate · log · picture; what is saved comes after them."""
    last = stage.config.steps
    hr, labels = faces.test_faces(config.evaluation.faces)
    hallucinates = 'cnnh' in (*stage.update.trained, *stage.update.fitted)
    if hallucinates:
        measure = measure_hallucination(
            stage.method, hr, _reference(config, stage.directory.parent)
        )
    else:
        measure = measure_recognition(
            stage.method.cnnr, hr, labels, num_pairs=config.evaluation.pairs
        )
    log = Log(
        stage.name,
        stage.directory,
        every=config.log_every,
        start=start,
        last=last,
        batch_size=stage.config.batch_size,
        checkpoints=checkpoints,
        patience=config.nonfinite_steps,
        keys=lambda step: faces.batch_keys(
            batch_size=stage.config.batch_size,
            seed=_data_seed(config, stage),
            step=step - 1,
        ),
    )
    hooks: list[Hook] = [Evaluate(stage.config.evaluate_every, last, measure), log]
    if hallucinates:
        drawn = hr[_spread(labels, config.evaluation.pictures)]
        folder = stage.directory / 'samples'
        hooks.append(
            Picture(stage.config.evaluate_every, last, folder, stage.method, drawn)
        )
    return hooks


def dispatch(stage: Stage, faces: dataset.Faces, together: int = 1) -> Callable:
    """An iteration of a stage, or several in one program, mapped over devices.

    Args:
      stage: which.
      faces: where its batches come from.
      together: iterations a call.

    Returns:
      (state, batch, resident) → (state, metrics). State and `faces.resident` are
      replicated; the batch is one of `faces`, sharded, and with `together` above 1 a
      stack of so many, as are the metrics then. The state is donated.
    """

    def one(program, state, batch, resident):
        return program(stage.method, state, faces.to_hr({**batch, **resident}))

    def several(program, state, batches, resident):
        return jax.lax.scan(
            lambda state, batch: one(program, state, batch, resident), state, batches
        )

    first, *others = (
        parallel.parallel(functools.partial(one if together == 1 else several, program))
        for program in stage.update.programs
    )

    def update(state, batch, resident):
        state, metrics = first(state, batch, resident)
        for other in others:
            state, more = other(state, batch, resident)
            metrics = steps.merge_metrics(metrics, more)
        return state, metrics

    return update


def place(
    method: steps.Method, state: TrainState, devices: parallel.Devices | None = None
) -> TrainState:
    """Host arrays of a whole state, on the devices as the method's updates take them:
    replicated, or the class weights split.
    """
    replicate = functools.partial(parallel.replicate, devices=devices)
    split = functools.partial(parallel.split, devices=devices)
    return _by_network(state, replicate, split if method.split_identities else None)


def fetch(method: steps.Method, num_identities: int, state: TrainState) -> TrainState:
    """The inverse of `place`; all processes must call it."""
    unsplit = functools.partial(parallel.unsplit, size=num_identities)
    return _by_network(
        state, parallel.unreplicate, unsplit if method.split_identities else None
    )


def _by_network(state, move, move_class_weights):
    return TrainState(
        step=move(state.step),
        networks={
            name: (move_class_weights or move)(network)
            if name == 'class_weights'
            else move(network)
            for name, network in state.networks.items()
        },
    )


# The method of CNNH that a rule calls.
_CALLS = {'pyramid': 'pyramid', 'fit': 'fit'}


def _check_rule(config, name, cnnh, update):
    """That CNNH can be trained by the rule."""
    kind, rule = config.cnnh.kind, config[name].update_rule
    if rule in _CALLS and not hasattr(cnnh, _CALLS[rule]):
        fitting = [k for k, c in models.KINDS.items() if hasattr(c, _CALLS[rule])]
        raise ValueError(
            f'config.{name}.update_rule is {rule!r}, which is for config.cnnh.kind '
            f'{", ".join(fitting)}, but that is {kind!r}: start from the config of '
            'that kind.'
        )
    if 'cnnh' in update.trained and hasattr(cnnh, 'fit'):
        raise ValueError(
            f'config.{name}.update_rule is {rule!r}, but config.cnnh.kind {kind!r} is '
            "not trained: expected 'fit'."
        )
    if update.fitted and config[name].steps != 1:
        raise ValueError(
            f'config.{name}.steps is {config[name].steps}; expected 1: the rule '
            f'{rule!r} does everything at once.'
        )
    for network in update.trained:
        if network not in config[name].optimizer:
            raise ValueError(
                f'config.{name}.optimizer has none for {network!r}, which the rule '
                f'{rule!r} trains: add one, see configs/common.py.'
            )


# Rules that count a weight.
_WEIGHING = {
    'alpha': ('hallucination', 'domain_integrated', 'joint', 'adversarial'),
    'adversarial_weight': ('adversarial',),
    'perceptual_weight': ('hallucination', 'domain_integrated', 'adversarial'),
}


def _check_weights(stage, name):
    """That no weight is without effect."""
    rule = stage.update_rule
    for field, rules in _WEIGHING.items():
        if stage[field] and rule not in rules:
            raise ValueError(
                f'config.{name}.{field} is {stage[field]}, but the rule {rule!r} does '
                f'not count it: expected 0, or one of the rules {", ".join(rules)}.'
            )
    if rule == 'adversarial' and stage.adversarial_weight <= 0:
        raise ValueError(
            f'config.{name}.adversarial_weight is {stage.adversarial_weight}; expected '
            "more than 0, or the rule 'hallucination', which has no discriminator."
        )


def _recognition_loss(config):
    return losses.recognition_loss(config.name, **config.get(config.name, {}))


def _load(config, stage, source, network, faces):
    directory = stage_directory(config, source, stage.directory.parent)
    params, found = checkpoint.load_networks(directory, [network])
    fields = ['convention']
    if network not in ('cnnr', 'class_weights'):
        # CNNR takes faces of one size, wherever they are from.
        fields += ['scale', 'degradation']
    expected = {field: stage.record[field] for field in fields}
    checkpoint.check_record(found, expected, str(directory))
    model = 'cnnr' if network == 'class_weights' else network
    checkpoint.check_record(
        found['models'], {model: stage.record['models'][model]}, str(directory)
    )
    if network == 'class_weights':
        checkpoint.check_record(
            found['data'], {'num_identities': faces.num_identities}, str(directory)
        )
    return params[network]


def initialise(
    config: ConfigDict, stage: Stage, network: str, faces: dataset.Faces
) -> Any:
    """Fresh parameters of a network, the same on every process, as host arrays.

    Initialised, or, where the stage's rule says so, fitted to training faces.
    """
    key = jax.random.key(config.seed)
    if network == 'class_weights':
        shape = (config.cnnr.feature_dim, faces.num_identities)
        weights = np.asarray(jax.random.normal(key, shape)) / np.sqrt(shape[0])
        # NumPy's square root is a float64, which the quotient would be as well.
        return weights.astype(np.float32)
    model = getattr(stage.method, network)
    fitted = network in stage.update.fitted
    x = hr = _first_faces(
        config, stage, faces, model.num_faces if fitted else _INIT_BATCH
    )
    if network == 'cnnh':
        x = inference.degrade_faces(hr, scale=config.scale, kind=config.degradation)
    if fitted:
        return model.fit(x, hr)
    # Run once: what a better program would save, its compilation costs many times over.
    init = jax.jit(model.init, compiler_options={'xla_backend_optimization_level': 1})
    return jax.tree.map(np.asarray, init(key, images.to_float(x))['params'])


def _first_faces(config, stage, faces, count):
    """The first faces of a stage's training, uint8 [count, 112, 96, 3]."""
    to_hr = jax.jit(lambda batch: faces.to_hr(batch)['hr'])
    batches = faces.train_batches(
        batch_size=_INIT_BATCH, seed=_data_seed(config, stage)
    )
    needed = itertools.islice(batches, -(-count // _INIT_BATCH))
    hr = [np.asarray(to_hr({**batch, **faces.resident})) for batch in needed]
    return np.concatenate(hr)[:count]


def _data_seed(config, stage):
    """Of the order of a stage's faces, in the range that TensorFlow takes."""
    return (config.seed * 1000 + stage.config.data_seed) % 2**32


def _reference(config, workdir):
    """CNNR of stage 1, by which identity similarity is measured; None if unknown."""
    if 'recognition' not in config:
        return None
    directory = stage_directory(config, 'recognition', workdir)
    if not checkpoint.has_networks(directory):
        return None
    return checkpoint.load_networks(directory, ['cnnr'])[0]['cnnr']


def _spread(labels, count):
    """Indices of faces of as many different identities as there are."""
    _, first = np.unique(labels, return_index=True)
    return np.sort(first)[:count]


def _headline(stage: Stage, state: TrainState, start: int) -> str:
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
