"""Every field that a run depends on, with the paper's networks as defaults."""

from ml_collections import ConfigDict, FieldReference


def base() -> ConfigDict:
    """What all experiments share; `configs/di.py` and the others add stages."""
    config = ConfigDict()
    config.seed = 0

    # 8: 12×14 → 96×112; 4: 24×28 → 96×112 (Sec. 4.5).
    config.scale = 8
    # 'bicubic' (antialiased, a = −0.5) or 'area' (mean of scale × scale pixels).
    config.degradation = 'bicubic'

    config.data = ConfigDict()
    # 'records': shards in `dir`, as sicnn_jax.data.prepare writes them.
    # 'procedural': embedded faces, rendered on the device; no TensorFlow, no disk.
    # 'embedded': the same faces, written as shards first.
    config.data.source = 'procedural'
    config.data.dir = ''
    config.data.seed = 0
    config.data.identities = 17_680
    config.data.images_per_identity = 1_000
    config.data.test_identities = 1_000
    config.data.test_images_per_identity = 10
    # Of procedural faces: how far they are turned, scaled and moved from the template;
    # 0: as landmarks align them, 1: as a detector's boxes leave them.
    config.data.misalignment = 0.0
    # Augmentation of shards, a function of (seed, step): mirrored with probability ½;
    # moved by up to so many pixels.
    config.data.flip = True
    config.data.shift = 0
    # Enlarged or reduced by up to this share, turned by up to so many degrees.
    config.data.zoom = 0.0
    config.data.rotation = 0.0
    # Changed by up to this share: of 255 levels, of the distance from the mean level,
    # of the distance of colours from grey.
    config.data.brightness = 0.0
    config.data.contrast = 0.0
    config.data.saturation = 0.0
    # Of shards that are missing or damaged. 'raise': the run stops and names the
    # record; 'skip': it goes on without, up to a share of each split.
    config.data.on_error = 'raise'
    config.data.max_error_share = 0.01
    # Of shards. 'host': read and decoded while training. 'device': decoded once and
    # held whole in the memory of each device.
    config.data.placement = 'host'

    # Table 1.
    config.cnnr = ConfigDict()
    config.cnnr.widths = (64, 128, 256, 512)
    config.cnnr.depths = (1, 2, 5, 3)
    config.cnnr.feature_dim = 512
    config.cnnr.init_std = 1.0
    config.cnnr.dtype = 'bfloat16'
    config.cnnr.param_dtype = 'float32'

    # Fig. 2a; sizes of the public Caffe definition.
    config.cnnh = ConfigDict()
    # Which network enlarges; another one has other fields: `sicnn_jax.models.KINDS`.
    config.cnnh.kind = 'cnnh'
    # One number, or four, for the resolutions 14×12, 28×24, 56×48 and 112×96.
    config.cnnh.width = _one_or_several(64)
    config.cnnh.growth = _one_or_several(32)
    # One number, or three, for the stages between them.
    config.cnnh.depth = _one_or_several(6)
    config.cnnh.deconv_width = _one_or_several(256)
    config.cnnh.deconv_kernels = (3, 5, 5)
    config.cnnh.final_depth = 2
    # Factor of the first weights of the reconstruction.
    config.cnnh.reconstruction_gain = 1.0
    # The reconstruction is added to the bicubic enlargement, which the paper has not.
    config.cnnh.bicubic_skip = False
    config.cnnh.init_std = 1.0
    config.cnnh.dtype = 'bfloat16'
    config.cnnh.param_dtype = 'float32'

    # Of adversarial training.
    config.discriminator = ConfigDict()
    config.discriminator.widths = (32, 64, 128, 256)
    config.discriminator.kernel_size = 5
    config.discriminator.init_std = 1.0
    config.discriminator.dtype = 'bfloat16'
    config.discriminator.param_dtype = 'float32'

    # Which of these, with the settings of their papers.
    config.recognition_loss = ConfigDict()
    config.recognition_loss.name = 'a_softmax'
    config.recognition_loss.a_softmax = ConfigDict({'margin': 4})
    config.recognition_loss.cosface = ConfigDict({'scale': 64.0, 'margin': 0.35})
    config.recognition_loss.arcface = ConfigDict({'scale': 64.0, 'margin': 0.5})
    # Each device holds the class weights of a share of the identities, not of all:
    # for very many of them.
    config.recognition_loss.split_identities = False
    # The loss of a step is over so many identities of those that a device holds: the
    # labels', the others drawn anew in each step; 0: over all of them.
    config.recognition_loss.sampled_identities = 0

    # Iterations in one program, without a return to the host in between: for steps so
    # short that starting them takes a share of the time.
    config.steps_per_dispatch = 1
    # A CPU counts as so many devices, each of which has its share of a batch; 0: as
    # one, unless XLA_FLAGS says otherwise. With one for each core, cores wait less.
    config.cpu_devices = 0
    # A CPU computes convolutions of many channels in Winograd's tiles: fewer
    # multiplications, but four times as long to compile (models/convolution.py).
    config.winograd = True
    config.log_every = 100
    # A step whose loss or gradient is not finite is not applied; after so many in a row
    # the run stops.
    config.nonfinite_steps = 1
    config.evaluation = ConfigDict()
    # While training: the first so many held-out faces, and pairs of them.
    config.evaluation.faces = 512
    config.evaluation.pairs = 600
    config.evaluation.pictures = 6
    # At the end: all held-out faces (0) or the first so many, and pairs of them. Of
    # pairs as many as there are, where these are fewer.
    config.evaluation.final_faces = 0
    config.evaluation.final_pairs = 6_000
    # Independent recognition network: '' is the one shipped for procedural faces,
    # else the directory of a finished recognition stage.
    config.evaluation.judge = ''

    config.stages = ()
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
    init: dict[str, str] | None = None,
    alpha: float = 0.0,
    identity_loss: str = 'super_identity',
    adversarial_weight: float = 0.0,
    perceptual_weight: float = 0.0,
    best: str,
    annealing: dict[str, float] | None = None,
    microbatches: int = 1,
    fused: bool = False,
    evaluate_every: int = 5_000,
    checkpoint_every: int = 1_000,
) -> ConfigDict:
    """One stage.

    Args:
      update_rule: of `sicnn_jax.steps.find_update`.
      steps: iterations.
      batch_size: over all devices and processes. In domain-integrated training, N.
      optimizers: of each network that the rule trains. They are copied, so that what is
        set in one place is set there alone.
      data_seed: stages with the same one see the same batches.
      init: network → stage it comes from, or the directory of one of another run;
        networks without one are initialised.
      alpha: α.
      identity_loss: that α weighs, 'super_identity' (Eq. 3), or 'feature_distance',
        which is that of features that are not normalised.
      adversarial_weight: of the adversarial loss, beside L_SR, a sum over pixels.
      perceptual_weight: of the perceptual loss through CNNR, likewise.
      best: metric by which the best checkpoint is kept.
      annealing: λ = max(minimum, base / (1 + gamma (step + offset)) ** power).
      microbatches: the faces of a device are taken in so many parts, one after the
        other, and their gradients averaged: the same step in less memory.
      fused: the two updates of 'domain_integrated' are one program, in which CNNH's
        forward pass is computed once; else they are dispatched one after the other.
      evaluate_every: steps between evaluations on held-out faces.
      checkpoint_every: steps between checkpoints.
    """
    # SphereFace's Caffe definition.
    default_annealing = {
        'base': 1000.0,
        'gamma': 0.12,
        'power': 1.0,
        'minimum': 5.0,
        'offset': 0,
    }
    return ConfigDict(
        {
            'update_rule': update_rule,
            'steps': steps,
            'batch_size': batch_size,
            'optimizer': {
                network: one.copy_and_resolve_references()
                for network, one in optimizers.items()
            },
            'data_seed': data_seed,
            'init': dict.fromkeys(
                ('cnnr', 'class_weights', 'cnnh', 'discriminator'), ''
            )
            | (init or {}),
            'alpha': alpha,
            'identity_loss': identity_loss,
            'adversarial_weight': adversarial_weight,
            'perceptual_weight': perceptual_weight,
            'beta': 1.0,
            'loss_scale': 1.0,
            'microbatches': microbatches,
            'fused': fused,
            'best': best,
            'annealing': default_annealing | (annealing or {}),
            'evaluate_every': evaluate_every,
            'checkpoint_every': checkpoint_every,
            # Directory of this stage, finished in another run: it is not trained.
            'checkpoint': '',
        }
    )


def light_networks(config: ConfigDict) -> None:
    """Light networks, for two CPU cores: many channels where pixels are few.

    At 14×12, where a face is decided, a channel costs a 64th of what it costs at 112×96
    (docs/results.md).
    """
    config.cpu_devices = 2
    config.winograd = False
    config.cnnr.widths = (16, 16, 48, 96)
    config.cnnr.depths = (1, 1, 2, 1)
    config.cnnr.feature_dim = 128
    config.cnnr.dtype = 'float32'
    config.cnnh.width = (64, 64, 32, 16)
    config.cnnh.growth = (32, 32, 16, 8)
    config.cnnh.depth = (6, 4, 1)
    config.cnnh.deconv_width = (128, 64, 16)
    # Divisible by the stride, so that they overlap evenly.
    config.cnnh.deconv_kernels = (4, 4, 4)
    config.cnnh.final_depth = 1
    config.cnnh.reconstruction_gain = 0.1
    config.cnnh.bicubic_skip = True
    config.cnnh.dtype = 'float32'


def known_fields() -> tuple[ConfigDict, ConfigDict, ConfigDict]:
    """Every field of an experiment, of a stage and of an optimiser, with a value."""
    one = stage(
        'recognition', steps=1, batch_size=1, optimizers={}, data_seed=0, best=''
    )
    del one['optimizer']
    return base(), one, optimizer('sgd', 0.1)


def recognition_stage() -> ConfigDict:
    """Stage 1 of Sec. 4.1: CNNR by A-Softmax."""
    sgd = optimizer(
        'sgd',
        0.1,
        boundaries=(20_000, 30_000),
        warmup_steps=1_000,
        weight_decay=5e-4,
        clip=5.0,
    )
    return stage(
        'recognition',
        steps=35_000,
        batch_size=512,
        optimizers={'cnnr': sgd, 'class_weights': sgd},
        data_seed=0,
        best='verification_accuracy',
    )


def hallucination_stage() -> ConfigDict:
    """Stage 2 of Sec. 4.1: CNNH by L_SR."""
    sgd = optimizer(
        'sgd', 0.02, boundaries=(30_000, 60_000), weight_decay=2.5e-4, clip=1.0
    )
    return stage(
        'hallucination',
        steps=80_000,
        batch_size=128,
        optimizers={'cnnh': sgd},
        data_seed=1,
        best='psnr',
    )
