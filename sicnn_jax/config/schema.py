"""Every field that a run depends on, once, with the paper's networks as defaults.

Each call gives fresh values: no two fields of a config are the same object.
"""

from typing import Any

from ml_collections import ConfigDict, FieldReference

from sicnn_jax.rules import find_rule
from sicnn_jax.terms import IDENTITY_TERMS

__all__ = ['base', 'discriminator', 'optimizer', 'stage', 'stage_fields']


def base() -> ConfigDict:
    """The fields that all experiments share; those of `configs/` add stages."""
    config = ConfigDict()
    config.seed = 0

    # 8: 12×14 → 96×112; 4: 24×28 → 96×112 (Sec. 4.5).
    config.scale = 8
    # 'bicubic' (antialiased, a = −0.5) or 'area' (mean of scale × scale pixels).
    config.degradation = 'bicubic'

    config.data = _data()
    config.cnnr = _cnnr()
    config.cnnh = _cnnh()
    config.recognition_loss = _recognition_loss()
    config.evaluation = _evaluation()

    # Iterations in one program, without returning to the host in between: for steps so
    # short that starting them takes a good part of the time.
    config.steps_per_dispatch = 1
    # Devices that a CPU is split into, each with its share of a batch; 0: one, unless
    # XLA_FLAGS says otherwise. With one for each core, cores wait less.
    config.cpu_devices = 0
    # A CPU computes convolutions of many channels in Winograd's tiles: it multiplies
    # less, but compiles four times as long (models/convolutions/).
    config.winograd = True
    config.log_every = 100
    # A step whose loss or gradient is not finite is not applied; after this many in a
    # row, the run stops.
    config.nonfinite_steps = 1
    config.stages = ()
    return config


def _data() -> ConfigDict:
    """Where faces come from."""
    config = ConfigDict()
    # 'records': shards in `dir`, as sicnn_jax.data.prepare writes them.
    # 'procedural': embedded faces, rendered on the device; no TensorFlow, no disk.
    # 'embedded': the same faces, written as shards first.
    config.source = 'procedural'
    config.dir = ''
    config.seed = 0
    config.identities = 17_680
    config.images_per_identity = 1_000
    config.test_identities = 1_000
    config.test_images_per_identity = 10
    # How far procedural faces are turned, scaled and moved from the template; 0: as
    # landmarks align them, 1: as a detector's boxes leave them.
    config.misalignment = 0.0
    # Augmentation of shards, a function of (seed, step): faces are mirrored with
    # probability ½, and moved by up to this many pixels.
    config.flip = True
    config.shift = 0
    # They are enlarged or reduced by up to this share, and turned by up to this many
    # degrees.
    config.zoom = 0.0
    config.rotation = 0.0
    # They change by up to these shares: of 255 levels, of the distance from the mean
    # level, and of the distance of colours from grey.
    config.brightness = 0.0
    config.contrast = 0.0
    config.saturation = 0.0
    # If shards are missing or damaged. 'raise': the run stops and names the record;
    # 'skip': it continues without them, up to a share of each split.
    config.on_error = 'raise'
    config.max_error_share = 0.01
    # Where shards are kept. 'host': they are read and decoded while training. 'device':
    # they are decoded once and held whole in the memory of each device.
    config.placement = 'host'
    # A teacher's features for shards that are held on the device, for the rule
    # `distillation`: a file that python -m sicnn_jax.describe writes.
    config.targets = ''
    return config


def _cnnr() -> ConfigDict:
    """Table 1."""
    config = ConfigDict()
    # The network that recognises; others have other fields: `models.RECOGNISERS`.
    config.kind = 'cnnr'
    config.widths = (64, 128, 256, 512)
    config.depths = (1, 2, 5, 3)
    config.feature_dim = 512
    config.init_std = 1.0
    config.dtype = 'bfloat16'
    config.param_dtype = 'float32'
    return config


def _cnnh() -> ConfigDict:
    """Fig. 2a; sizes of the public Caffe definition."""
    config = ConfigDict()
    # The network that enlarges; others have other fields: `models.KINDS`.
    config.kind = 'cnnh'
    # One number, or four for the resolutions 14×12, 28×24, 56×48 and 112×96.
    config.width = _one_or_several(64)
    config.growth = _one_or_several(32)
    # One number, or three for the stages between them.
    config.depth = _one_or_several(6)
    config.deconv_width = _one_or_several(256)
    config.deconv_kernels = (3, 5, 5)
    config.final_depth = 2
    # Factor of the first weights of the reconstruction.
    config.reconstruction_gain = 1.0
    # Whether the reconstruction is added to the bicubic enlargement (not in the paper).
    config.bicubic_skip = False
    config.init_std = 1.0
    config.dtype = 'bfloat16'
    config.param_dtype = 'float32'
    return config


def _recognition_loss() -> ConfigDict:
    """The loss of CNNR, and the settings of each loss from its paper."""
    config = ConfigDict()
    config.name = 'a_softmax'
    config.a_softmax = ConfigDict({'margin': 4})
    config.cosface = ConfigDict({'scale': 64.0, 'margin': 0.35})
    config.arcface = ConfigDict({'scale': 64.0, 'margin': 0.5})
    # Each device holds the class weights of a share of the identities, not of all: for
    # very many identities.
    config.split_identities = False
    # Identities, of those that a device holds, that the loss of a step covers: the
    # labels' and others, drawn anew in each step; 0: all of them.
    config.sampled_identities = 0
    return config


def _evaluation() -> ConfigDict:
    """On held-out faces."""
    config = ConfigDict()
    # While training: the number of held-out faces, the first ones, and of their pairs.
    config.faces = 512
    config.pairs = 600
    config.pictures = 6
    # At the end: the same numbers. 0 faces are all held-out faces; if there are fewer
    # pairs, all of them are measured.
    config.final_faces = 0
    config.final_pairs = 6_000
    # Instead of drawn pairs, those of LFW's pairs.txt or a file like it, which names
    # faces by the keys of the shards. Of its folds, numbered from 1, these are used
    # (empty: all); some are reported (empty: all), and the others give the threshold.
    # Only the faces of these pairs are measured.
    config.pairs_file = ''
    config.folds = ()
    config.reported_folds = ()
    # Independent recognition network: '' is the one that ships for procedural faces;
    # others are 'dlib', an .onnx file, a packed network, or the directory of a finished
    # stage.
    config.judge = ''
    return config


def discriminator() -> ConfigDict:
    """The section `discriminator`, for experiments that train one (UR-DGN)."""
    config = ConfigDict()
    config.widths = (32, 64, 128, 256)
    config.kernel_size = 5
    config.init_std = 1.0
    config.dtype = 'bfloat16'
    config.param_dtype = 'float32'
    return config


def _one_or_several(value):
    """A number that may be set to a tuple, unlike other fields that are numbers."""
    return FieldReference(value, field_type=object)


def optimizer(
    name: str,
    learning_rate: float,
    *,
    schedule: str = 'steps',
    boundaries: tuple[int, ...] = (),
    warmup_steps: int = 0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip: float = 0.0,
) -> ConfigDict:
    """The optimiser of one network; see `sicnn_jax.optimizers.make_optimizer`."""
    return ConfigDict(
        {
            'name': name,
            'learning_rate': learning_rate,
            'schedule': schedule,
            'boundaries': boundaries,
            'warmup_steps': warmup_steps,
            'momentum': momentum,
            'weight_decay': weight_decay,
            'clip': clip,
        }
    )


def stage(
    update_rule: str,
    *,
    steps: int,
    batch_size: int,
    optimizers: dict[str, ConfigDict],
    data_seed: int,
    best: str,
    init: dict[str, str] | None = None,
    annealing: dict[str, float] | None = None,
    **fields: Any,
) -> ConfigDict:
    """One stage, with the fields that its rule reads; `stage_fields` describes them.

    Args:
      update_rule: of `sicnn_jax.rules.RULES`.
      steps, batch_size, data_seed, best: see `stage_fields`.
      optimizers: of each network that the rule trains. They are copied, so that setting
        a field of one changes no other.
      init: network → where it comes from; the rule's other networks are initialised.
      annealing: fields that differ from SphereFace's schedule of λ.
      **fields: other fields, such as `alpha`.

    Raises:
      ValueError: there is no such rule, or it does not read one of the fields.
    """
    config = stage_fields(update_rule)
    config.optimizer = {
        network: one.copy_and_resolve_references()
        for network, one in optimizers.items()
    }
    given = fields | {
        'steps': steps,
        'batch_size': batch_size,
        'data_seed': data_seed,
        'best': best,
    }
    for section, values in (('init', init), ('annealing', annealing)):
        if values:
            given[section] = values
    for name, value in given.items():
        _refuse_others(f'A stage of the rule {update_rule!r}', config, (name,))
        if isinstance(value, dict):
            _refuse_others(f'{name} of the rule {update_rule!r}', config[name], value)
            config[name].update(value)
        else:
            config[name] = value
    return config


def _refuse_others(what, known, names):
    for name in names:
        if name not in known:
            raise ValueError(
                f'{what} has no field {name!r}; it has {", ".join(known)}.'
            )


def stage_fields(update_rule: str) -> ConfigDict:
    """The fields of a stage of this rule, except its optimisers.

    Raises:
      ValueError: there is no such rule.
    """
    rule = find_rule(update_rule)
    config = ConfigDict({'update_rule': update_rule})
    config.steps = 1
    # Over all devices and processes; N of domain-integrated training.
    config.batch_size = 1
    # Stages with the same seed see the same batches.
    config.data_seed = 0
    # Network → the stage that it comes from, the directory of a stage of another run,
    # or a packed network (.safetensors); other networks are initialised. Class weights
    # may be 'centroids': the mean directions of each identity's features.
    may_read = ('cnnr',) if rule.weighs else ()
    config.init = dict.fromkeys((*rule.makes, *rule.reads, *may_read), '')
    # Parts into which the faces of a device are split. Their gradients are computed one
    # after the other and averaged: the same step in less memory.
    config.microbatches = 1
    # Metric that decides which checkpoint is the best one, which is kept.
    config.best = ''
    # Steps between evaluations on held-out faces, and between checkpoints.
    config.evaluate_every = 5_000
    config.checkpoint_every = 1_000
    # Directory of this stage, finished in another run, or a packed network; it is not
    # trained then.
    config.checkpoint = ''
    if 'class_weights' in rule.trains:
        # λ = max(minimum, base / (1 + gamma (step + offset)) ** power), as in
        # SphereFace's Caffe definition.
        config.annealing = {
            'base': 1000.0,
            'gamma': 0.12,
            'power': 1.0,
            'minimum': 5.0,
            'offset': 0,
        }
    if 'cnnh' in rule.trains:
        # Factor of CNNH's whole objective: only clipping and Adam see a difference.
        config.loss_scale = 1.0
    if rule.weighs:
        # α, and the loss that it weighs: 'super_identity' (Eq. 3), or
        # 'feature_distance', whose features are not normalised.
        config.alpha = 0.0
        config.identity_loss = 'super_identity'
        # For this loss, SR and HR are both moved by up to this many pixels, and blurred
        # by a Gaussian of up to this deviation in pixels; if either is not 0, both are
        # also mirrored with probability ½. Without that, CNNH learns a fine grid that
        # pleases CNNR.
        config.identity_shift = 0
        config.identity_blur = 0.0
        # Weights of the other terms, relative to L_SR, which is a sum over pixels.
        for name in rule.terms:
            if name not in IDENTITY_TERMS:
                config[f'{name}_weight'] = 0.0
    if rule.fused:
        # Whether both updates are one program, which computes CNNH's forward pass once,
        # or are dispatched one after the other.
        config.fused = False
    config.update(rule.fields)
    return config
