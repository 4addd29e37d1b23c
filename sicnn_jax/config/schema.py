"""Every field that a run depends on, once, with the paper's networks as defaults.

Each call gives fresh values: no two fields of a config are the same object.
"""

from typing import Any

from ml_collections import ConfigDict, FieldReference

from sicnn_jax.rules import find_rule
from sicnn_jax.terms import IDENTITY_TERMS

__all__ = ['base', 'discriminator', 'optimizer', 'stage', 'stage_fields']


def base() -> ConfigDict:
    """What all experiments share; those of `configs/` add stages."""
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

    # Iterations in one program, without a return to the host in between: for steps so
    # short that starting them takes a share of the time.
    config.steps_per_dispatch = 1
    # A CPU counts as so many devices, each of which has its share of a batch; 0: as
    # one, unless XLA_FLAGS says otherwise. With one for each core, cores wait less.
    config.cpu_devices = 0
    # A CPU computes convolutions of many channels in Winograd's tiles: fewer
    # multiplications, but four times as long to compile (models/convolutions/).
    config.winograd = True
    config.log_every = 100
    # A step whose loss or gradient is not finite is not applied; after so many in a row
    # the run stops.
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
    # Of procedural faces: how far they are turned, scaled and moved from the template;
    # 0: as landmarks align them, 1: as a detector's boxes leave them.
    config.misalignment = 0.0
    # Augmentation of shards, a function of (seed, step): mirrored with probability ½;
    # moved by up to so many pixels.
    config.flip = True
    config.shift = 0
    # Enlarged or reduced by up to this share, turned by up to so many degrees.
    config.zoom = 0.0
    config.rotation = 0.0
    # Changed by up to this share: of 255 levels, of the distance from the mean level,
    # of the distance of colours from grey.
    config.brightness = 0.0
    config.contrast = 0.0
    config.saturation = 0.0
    # Of shards that are missing or damaged. 'raise': the run stops and names the
    # record; 'skip': it goes on without, up to a share of each split.
    config.on_error = 'raise'
    config.max_error_share = 0.01
    # Of shards. 'host': read and decoded while training. 'device': decoded once and
    # held whole in the memory of each device.
    config.placement = 'host'
    # A teacher's features of shards that are held on the device, for the rule
    # `distillation`: a file that python -m sicnn_jax.describe writes.
    config.targets = ''
    return config


def _cnnr() -> ConfigDict:
    """Table 1."""
    config = ConfigDict()
    # Which network recognises; another one has other fields:
    # `sicnn_jax.models.RECOGNISERS`.
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
    # Which network enlarges; another one has other fields: `sicnn_jax.models.KINDS`.
    config.kind = 'cnnh'
    # One number, or four, for the resolutions 14×12, 28×24, 56×48 and 112×96.
    config.width = _one_or_several(64)
    config.growth = _one_or_several(32)
    # One number, or three, for the stages between them.
    config.depth = _one_or_several(6)
    config.deconv_width = _one_or_several(256)
    config.deconv_kernels = (3, 5, 5)
    config.final_depth = 2
    # Factor of the first weights of the reconstruction.
    config.reconstruction_gain = 1.0
    # The reconstruction is added to the bicubic enlargement, which the paper has not.
    config.bicubic_skip = False
    config.init_std = 1.0
    config.dtype = 'bfloat16'
    config.param_dtype = 'float32'
    return config


def _recognition_loss() -> ConfigDict:
    """Which of these, with the settings of their papers."""
    config = ConfigDict()
    config.name = 'a_softmax'
    config.a_softmax = ConfigDict({'margin': 4})
    config.cosface = ConfigDict({'scale': 64.0, 'margin': 0.35})
    config.arcface = ConfigDict({'scale': 64.0, 'margin': 0.5})
    # Each device holds the class weights of a share of the identities, not of all:
    # for very many of them.
    config.split_identities = False
    # The loss of a step is over so many identities of those that a device holds: the
    # labels', the others drawn anew in each step; 0: over all of them.
    config.sampled_identities = 0
    return config


def _evaluation() -> ConfigDict:
    """On held-out faces."""
    config = ConfigDict()
    # While training: the first so many held-out faces, and pairs of them.
    config.faces = 512
    config.pairs = 600
    config.pictures = 6
    # At the end: all held-out faces (0) or the first so many, and pairs of them. Of
    # pairs as many as there are, where these are fewer.
    config.final_faces = 0
    config.final_pairs = 6_000
    # Instead, pairs of keys of the shards, LFW's pairs.txt or a file like it: those of
    # some folds, numbered from 1 (empty: all), of which some are reported (empty: all)
    # and the others give the threshold. Only the faces of these pairs are measured.
    config.pairs_file = ''
    config.folds = ()
    config.reported_folds = ()
    # Independent recognition network: '' is the one shipped for procedural faces, else
    # 'dlib', an .onnx file, a packed network or the directory of a finished stage.
    config.judge = ''
    return config


def discriminator() -> ConfigDict:
    """The section `discriminator` of an experiment that trains one (UR-DGN)."""
    config = ConfigDict()
    config.widths = (32, 64, 128, 256)
    config.kernel_size = 5
    config.init_std = 1.0
    config.dtype = 'bfloat16'
    config.param_dtype = 'float32'
    return config


def _one_or_several(value):
    """A number that may be set to a tuple, which a field of its type may not."""
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
    """Optimiser of one network; see `sicnn_jax.optimizers.make_optimizer`."""
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
      optimizers: of each network that the rule trains. They are copied, so that what is
        set in one place is set there alone.
      init: network → where it comes from; the others of the rule are initialised.
      annealing: what differs from SphereFace's schedule of λ.
      **fields: others, such as `alpha`.

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
    """The fields of a stage but its optimisers, by the rule that it has.

    Raises:
      ValueError: there is no such rule.
    """
    rule = find_rule(update_rule)
    config = ConfigDict({'update_rule': update_rule})
    config.steps = 1
    # Over all devices and processes. In domain-integrated training, N.
    config.batch_size = 1
    # Stages with the same one see the same batches.
    config.data_seed = 0
    # Network → the stage it comes from, the directory of one of another run, or a
    # packed network (.safetensors); networks without one are initialised. 'centroids'
    # for class weights: the mean directions of each identity's features.
    may_read = ('cnnr',) if rule.weighs else ()
    config.init = dict.fromkeys((*rule.makes, *rule.reads, *may_read), '')
    # The faces of a device are taken in so many parts, one after the other, and their
    # gradients averaged: the same step in less memory.
    config.microbatches = 1
    # Metric by which the best checkpoint is kept.
    config.best = ''
    # Steps between evaluations on held-out faces, and between checkpoints.
    config.evaluate_every = 5_000
    config.checkpoint_every = 1_000
    # Directory of this stage, finished in another run, or a packed network: it is not
    # trained.
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
        # Of the whole objective of CNNH: only clipping and Adam see a difference.
        config.loss_scale = 1.0
    if rule.weighs:
        # α, and what it weighs: 'super_identity' (Eq. 3), or 'feature_distance', whose
        # features are not normalised.
        config.alpha = 0.0
        config.identity_loss = 'super_identity'
        # For it SR and HR are moved alike by up to so many pixels, and blurred alike by
        # a Gaussian of up to this deviation in pixels; where either is not 0, they are
        # also mirrored alike with probability ½. Without, CNNH learns a fine grid that
        # pleases CNNR.
        config.identity_shift = 0
        config.identity_blur = 0.0
        # Weights of the other terms, relative to L_SR, a sum over pixels.
        for name in rule.terms:
            if name not in IDENTITY_TERMS:
                config[f'{name}_weight'] = 0.0
    if rule.fused:
        # Both updates are one program, in which CNNH's forward pass is computed once;
        # else they are dispatched one after the other.
        config.fused = False
    config.update(rule.fields)
    return config
