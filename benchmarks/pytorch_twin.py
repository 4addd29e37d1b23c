"""The same networks, losses and updates in PyTorch, to compare ours with.

They are written as a PyTorch user who cares about speed would write them:
channels_last, fused optimiser, no host round trip except for the loss. Modules have the
names of our layers. `load_cnnr` and `load_cnnh` copy our weights. The constructors'
defaults are the paper's sizes at 8×; `sizes_of` reads other sizes from a config.

PyTorch's ConvTranspose2d(padding=(k − 1) // 2, output_padding=k % 2) equals ours on
images that are mirrored in both directions. So the twin of CNNH mirrors its input and
its output, which costs next to nothing, and the kernels of its convolutions. Then both
networks compute the same numbers.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import onnx_twin
from sicnn_jax import images
from sicnn_jax.models import CNNH_SIZES, STAGES

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def conv(c_in, c_out, kernel_size=3, padding=None):
    """Convolution, 'same' unless a padding is given."""
    padding = kernel_size // 2 if padding is None else padding
    return nn.Conv2d(c_in, c_out, kernel_size, padding=padding)


class ResidualBlock(nn.Sequential):
    def __init__(self, width):
        super().__init__(_named_layers((1, 2), lambda _: conv(width, width)))

    def forward(self, x):
        return x + super().forward(x)


class DenseBlock(nn.Sequential):
    def __init__(self, width, growth, depth):
        layers = range(1, depth + 1)
        super().__init__(
            _named_layers(layers, lambda i: conv(width + (i - 1) * growth, growth))
        )

    def forward(self, x):
        layers = list(self)
        for convolution, prelu in zip(layers[::2], layers[1::2], strict=True):
            x = torch.cat([x, prelu(convolution(x))], 1)
        return x


class CNNR(nn.Sequential):
    """Table 1."""

    def __init__(
        self, widths=(64, 128, 256, 512), depths=(1, 2, 5, 3), feature_dim=512
    ):
        layers, channels = OrderedDict(), 3
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
            for name in ('1a', '1b') if level == 1 else (str(level),):
                layers[f'conv{name}'] = conv(channels, width, padding=0)
                layers[f'prelu{name}'] = nn.PReLU(width)
                channels = width
            layers[f'pool{level}'] = nn.AvgPool2d(
                3, 2, ceil_mode=True, count_include_pad=False
            )
            for block in range(1, depth + 1):
                layers[f'block{level}_{block}'] = ResidualBlock(width)
        layers['flatten'] = nn.Flatten()
        layers['fc1'] = nn.Linear(channels * 5 * 4, feature_dim)
        super().__init__(layers)


class CNNH(nn.Sequential):
    """Fig. 2a, 8×. For 4×, `kernels` is (5, 5), for stages 2 and 3.

    Each size is a single number, or a tuple as in our CNNH.
    """

    def __init__(
        self,
        width=64,
        growth=32,
        depth=6,
        deconv_width=256,
        kernels=(3, 5, 5),
        final_depth=2,
        bicubic_skip=False,
    ):
        widths, growths = _each('width', width), _each('growth', growth)
        depths = _each('depth', depth)
        deconv_widths = _each('deconv_width', deconv_width)
        first = STAGES - len(kernels)
        layers = OrderedDict(
            stem=conv(3, widths[first]), stem_prelu=nn.PReLU(widths[first])
        )
        for stage, kernel in enumerate(kernels, first + 1):
            width, growth, depth, deconv_width = (
                sizes[stage - 1] for sizes in (widths, growths, depths, deconv_widths)
            )
            layers[f'dense_block{stage}'] = DenseBlock(width, growth, depth)
            layers[f'deconv{stage}'] = nn.ConvTranspose2d(
                width + depth * growth,
                deconv_width,
                kernel,
                stride=2,
                padding=(kernel - 1) // 2,
                output_padding=kernel % 2,
            )
            layers[f'deconv_prelu{stage}'] = nn.PReLU(deconv_width)
            layers[f'mapping{stage}'] = conv(deconv_width, widths[stage], 1)
            layers[f'mapping_prelu{stage}'] = nn.PReLU(widths[stage])
        width, growth = widths[STAGES], growths[STAGES]
        layers['dense_block_final'] = DenseBlock(width, growth, final_depth)
        layers['reconstruction'] = conv(width + final_depth * growth, 3, 5)
        super().__init__(layers)
        self.bicubic_skip = bicubic_skip
        scale = 2 ** len(kernels)
        for name, size in (('rows', images.HEIGHT), ('columns', images.WIDTH)):
            weights = torch.from_numpy(bicubic(size // scale, scale))
            self.register_buffer(name, weights, persistent=False)

    def forward(self, x):
        y = super().forward(x.flip(2, 3)).flip(2, 3)
        if self.bicubic_skip:
            # In float32, like ours. The kernel of `functional.interpolate` has another
            # a, and its edges differ.
            with torch.autocast(x.device.type, enabled=False):
                return y + self.rows @ x @ self.columns.T
        return torch.tanh(y)


def bicubic(size, scale):
    """Weights that enlarge one axis as JAX does, float32 [scale · size, size]."""
    places = (np.arange(scale * size) + 0.5) / scale - 0.5
    distance = np.abs(places[:, None] - np.arange(size))
    # The kernel vanishes from a distance of 2 on.
    weights = images.keys(np.minimum(distance, 2))
    return np.float32(weights / weights.sum(1, keepdims=True))


def _each(field, value):
    """A number for each resolution or stage, see our CNNH."""
    return (value,) * CNNH_SIZES[field] if isinstance(value, int) else tuple(value)


def _named_layers(numbers, make):
    """Convolutions, each followed by a PReLU, by name."""
    layers = OrderedDict()
    for number in numbers:
        layers[f'conv{number}'] = convolution = make(number)
        layers[f'prelu{number}'] = nn.PReLU(convolution.out_channels)
    return layers


def load_cnnr(params, **sizes):
    """CNNR with our parameters."""
    return _load(CNNR(**sizes), params, mirrored=False)


def load_cnnh(params, **sizes):
    """CNNH with our parameters."""
    return _load(CNNH(**sizes), params, mirrored=True)


def load(name: str, params, described: Mapping):
    """The network that the section `name` of a config describes: 'cnnr' or 'cnnh'."""
    if described['kind'] == 'onnx':
        recogniser = onnx_twin.Recogniser(described['file'], params)
        return recogniser.to(memory_format=torch.channels_last)
    copy = {'cnnr': load_cnnr, 'cnnh': load_cnnh}[name]
    return copy(params, **sizes_of(described))


def sizes_of(described: Mapping) -> dict:
    """Arguments of a constructor here, from a config's section `cnnr` or `cnnh`."""
    if described['kind'] == 'cnnr':
        return {name: described[name] for name in ('widths', 'depths', 'feature_dim')}
    names = (*CNNH_SIZES, 'final_depth', 'bicubic_skip')
    return {name: described[name] for name in names} | {
        'kernels': described['deconv_kernels']
    }


def _load(network, params, *, mirrored):
    """The network with our parameters, which have the names of its modules."""
    state = {}
    for name, module in network.named_modules():
        if next(module.children(), None) or not list(module.parameters()):
            continue
        layer = params
        for part in name.split('.'):
            layer = layer[part]
        layer = {kind: np.asarray(array) for kind, array in layer.items()}
        if isinstance(module, nn.PReLU):
            state[f'{name}.weight'] = layer['slope']
            continue
        state[f'{name}.weight'] = _weight(module, layer['kernel'], mirrored)
        state[f'{name}.bias'] = layer['bias']
    state = {
        name: torch.tensor(np.ascontiguousarray(array)) for name, array in state.items()
    }
    network.load_state_dict(state)
    return network.to(memory_format=torch.channels_last)


def _weight(module, kernel, mirrored):
    """One of our kernels in PyTorch's layout."""
    if isinstance(module, nn.ConvTranspose2d):
        return kernel.transpose(2, 3, 0, 1)
    if isinstance(module, nn.Linear):
        # Our features of the last level are ordered (row, column, channel).
        kernel = kernel.reshape(5, 4, -1, module.out_features)
        return kernel.transpose(3, 2, 0, 1).reshape(module.weight.shape)
    kernel = kernel.transpose(3, 2, 0, 1)
    return kernel[..., ::-1, ::-1] if mirrored else kernel


def to_twin(images):
    """[n, h, w, 3] → channels_last tensor [n, 3, h, w]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(DEVICE)


def super_resolution_loss(sr, hr):
    """Eq. 1."""
    return (sr - hr).square().sum((1, 2, 3)).mean()


def super_identity_loss(sr_features, hr_features):
    """Eq. 3."""
    difference = functional.normalize(sr_features) - functional.normalize(hr_features)
    return difference.square().sum(1).mean()


def look(faces, views):
    """Faces [n, 3, h, w] as L_SI sees them through views [n, 4]; see `terms.look`."""
    height, width = faces.shape[2:]
    down, right, mirrored, blur = views.T[..., None]
    rows = torch.arange(height, device=faces.device) - down
    columns = torch.arange(width, device=faces.device) - right
    columns = torch.where(mirrored > 0, width - 1 - columns, columns)
    rows, columns = _sampling(rows, blur, height), _sampling(columns, blur, width)
    return rows[:, None] @ faces @ columns.mT[:, None]


def _sampling(places, blur, size):
    """Gaussian weights of the pixels around each of the places, [n, places, size]."""
    pixels = torch.arange(size, device=places.device)
    distance = pixels - places.clamp(0, size - 1)[..., None]
    deviation = blur.clamp(min=0.05)[..., None]
    return torch.softmax(-0.5 * (distance / deviation).square(), -1)


def a_softmax_loss(features, class_weights, labels, annealing):
    """Eq. 2 with m = 4 and λ, as in public PyTorch implementations of SphereFace.

    But like our loss, it divides the cosines by the norms of the class weights, which
    is faster than normalising all weights.
    """
    norms = features.norm(dim=1)
    cosines = functional.normalize(features) @ class_weights / class_weights.norm(dim=0)
    cosine = cosines.gather(1, labels[:, None])[:, 0].clamp(-1, 1)
    half = 0.5**0.5
    k = (cosine < half).float() + (cosine < 0).float() + (cosine < -half).float()
    sign = 1 - 2 * (k % 2)
    psi = sign * (8 * cosine**4 - 8 * cosine**2 + 1) - 2 * k
    target = cosine + (psi - cosine) / (1 + annealing)
    logits = cosines.scatter(1, labels[:, None], target[:, None])
    return functional.cross_entropy(norms[:, None] * logits, labels)


class Updates:
    """Our update steps, on networks with our parameters.

    Args:
      params: our parameters, by the name of the network.
      networks: modules 'cnnr' and 'cnnh'; those without an optimiser are frozen.
      optimizers: fields of a config's optimisers, by the name of what they train.
      compiled: whether the networks go through `torch.compile`.
      dtype: 'bfloat16' for automatic mixed precision; parameters, losses and
        optimisers stay in float32.
    """

    def __init__(self, params, networks, optimizers, *, compiled, dtype='float32'):
        self.autocast = torch.autocast(
            DEVICE, torch.bfloat16, enabled=dtype == 'bfloat16'
        )
        self.networks, self.optimizers, self.clips = {}, {}, {}
        trained = {}
        if 'class_weights' in params:
            value = torch.tensor(np.asarray(params['class_weights']), device=DEVICE)
            self.class_weights = nn.Parameter(value)
            trained['class_weights'] = [self.class_weights]
        for name, network in networks.items():
            network = network.to(DEVICE).requires_grad_(name in optimizers)
            trained[name] = list(network.parameters())
            self.networks[name] = torch.compile(network) if compiled else network
        for name, described in optimizers.items():
            self.optimizers[name] = _optimizer(described, trained[name])
            self.clips[name] = described['clip']

    def set_learning_rate(self, name, value):
        """Of the optimiser of this name, from the next step on."""
        for group in self.optimizers[name].param_groups:
            group['lr'] = value

    def recognition(self, faces, labels):
        """Stage 1; in Algorithm 1 on SR and HR faces."""
        features = self._run('cnnr', faces)
        loss = a_softmax_loss(features, self.class_weights, labels, 5.0)
        self._descend(loss, ('cnnr', 'class_weights'))
        return float(loss.detach())

    def distillation(self, faces, targets):
        """Trains CNNR towards a teacher's features."""
        loss = super_identity_loss(self._run('cnnr', faces), targets)
        self._descend(loss, ('cnnr',))
        return float(loss.detach())

    def hallucination(self, lr, hr, alpha=0.0, views=None):
        """Stage 2; with α, approach II, whose CNNR sees faces through `views`."""
        return self._update_cnnh(self._run('cnnh', lr), hr, alpha, views)

    def domain_integrated(self, lr, hr, labels, alpha):
        """Algorithm 1, with one forward pass of CNNH."""
        sr = self._run('cnnh', lr)
        faces = torch.cat([sr.detach(), hr])
        self.recognition(faces, torch.cat([labels, labels]))
        cnnr = self.networks['cnnr']
        cnnr.requires_grad_(False)
        loss = self._update_cnnh(sr, hr, alpha)
        cnnr.requires_grad_(True)
        return loss

    def infer(self, lr):
        with torch.inference_mode():
            return self._run('cnnh', lr)

    def _update_cnnh(self, sr, hr, alpha, views=None):
        loss = super_resolution_loss(sr, hr)
        if alpha:
            seen = [sr, hr] if views is None else [look(sr, views), look(hr, views)]
            with torch.no_grad():
                hr_features = self._run('cnnr', seen[1])
            identity = super_identity_loss(self._run('cnnr', seen[0]), hr_features)
            loss = loss + alpha * identity
        self._descend(loss, ('cnnh',))
        return float(loss.detach())

    def _run(self, name, faces):
        with self.autocast:
            return self.networks[name](faces).float()

    def _descend(self, loss, names):
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        for name in names:
            optimizer = self.optimizers[name]
            parameters = [
                p for group in optimizer.param_groups for p in group['params']
            ]
            nn.utils.clip_grad_norm_(parameters, self.clips[name], foreach=True)
            optimizer.step()


def _optimizer(described, parameters: Sequence[nn.Parameter]):
    """The optimiser of a config; only kernels and matrices decay."""
    kernels = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups = [{'params': kernels, 'weight_decay': described['weight_decay']}]
    if others:
        groups.append({'params': others, 'weight_decay': 0.0})
    settings = {'lr': described['learning_rate'], 'fused': True}
    if described['name'] == 'adam':
        return torch.optim.AdamW(groups, **settings)
    return torch.optim.SGD(groups, momentum=described['momentum'], **settings)
