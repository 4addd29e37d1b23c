"""The same networks, losses and updates in PyTorch, to compare ours with.

They are written as by a PyTorch user who cares about speed: channels_last, fused
optimiser, no host round trip except for the loss. Modules have the names of our layers.
`load_cnnr` and `load_cnnh` copy our weights; for other sizes than the paper's 8×
network, give those of the constructor.

PyTorch's ConvTranspose2d(padding=(k − 1) / 2, output_padding=1) equals ours on images
that are mirrored in both directions. So the twin of CNNH mirrors its input and its
output, which costs next to nothing, and the kernels of its convolutions: then both
compute the same numbers.
"""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional

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
    """Fig. 2a, 8×; 4× has only the kernels (5, 5), for its stages 2 and 3."""

    def __init__(
        self, width=64, growth=32, depth=6, deconv_width=256, kernels=(3, 5, 5)
    ):
        layers = OrderedDict(stem=conv(3, width), stem_prelu=nn.PReLU(width))
        for stage, kernel in enumerate(kernels, 4 - len(kernels)):
            layers[f'dense_block{stage}'] = DenseBlock(width, growth, depth)
            layers[f'deconv{stage}'] = nn.ConvTranspose2d(
                width + depth * growth,
                deconv_width,
                kernel,
                stride=2,
                padding=(kernel - 1) // 2,
                output_padding=1,
            )
            layers[f'deconv_prelu{stage}'] = nn.PReLU(deconv_width)
            layers[f'mapping{stage}'] = conv(deconv_width, width, 1)
            layers[f'mapping_prelu{stage}'] = nn.PReLU(width)
        layers['dense_block_final'] = DenseBlock(width, growth, 2)
        layers['reconstruction'] = conv(width + 2 * growth, 3, 5)
        super().__init__(layers)

    def forward(self, x):
        return torch.tanh(super().forward(x.flip(2, 3)).flip(2, 3))


def _named_layers(numbers, make):
    """Convolutions, each with a PReLU after it, by their names."""
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


def a_softmax_loss(features, class_weights, labels, annealing):
    """Eq. 2 with m = 4 and λ, as in the public PyTorch SphereFaces.

    Except that the cosines are divided by the norms of the class weights, as in ours,
    which is faster than normalising all weights.
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
      params: of our networks, by name.
      compiled: whether the networks go through `torch.compile`.
      dtype: 'bfloat16' for automatic mixed precision; parameters, losses and
        optimisers stay in float32.
    """

    def __init__(self, params, *, compiled, dtype='float32'):
        self.autocast = torch.autocast(
            DEVICE, torch.bfloat16, enabled=dtype == 'bfloat16'
        )
        self.networks, self.optimizers, self.clips = {}, {}, {}
        for name, value in params.items():
            if name == 'class_weights':
                self.class_weights = nn.Parameter(
                    torch.tensor(np.asarray(value), device=DEVICE)
                )
                parameters = [self.class_weights]
            else:
                load = {'cnnr': load_cnnr, 'cnnh': load_cnnh}[name]
                network = load(value).to(DEVICE)
                parameters = list(network.parameters())
                self.networks[name] = torch.compile(network) if compiled else network
            kernels = [p for p in parameters if p.ndim > 1]
            others = [p for p in parameters if p.ndim <= 1]
            groups = [{'params': kernels, 'weight_decay': 5e-4}]
            if others:
                groups.append({'params': others})
            self.optimizers[name] = torch.optim.SGD(
                groups, lr=1e-4, momentum=0.9, fused=True
            )
            self.clips[name] = 1.0 if name == 'cnnh' else 5.0

    def recognition(self, faces, labels):
        """Stage 1; in Algorithm 1 on SR and HR faces."""
        features = self._run('cnnr', faces)
        loss = a_softmax_loss(features, self.class_weights, labels, 5.0)
        self._descend(loss, ('cnnr', 'class_weights'))
        return float(loss.detach())

    def hallucination(self, lr, hr):
        """Stage 2."""
        loss = super_resolution_loss(self._run('cnnh', lr), hr)
        self._descend(loss, ('cnnh',))
        return float(loss.detach())

    def domain_integrated(self, lr, hr, labels, alpha=8.0):
        """Algorithm 1, with one forward pass of CNNH."""
        sr = self._run('cnnh', lr)
        faces = torch.cat([sr.detach(), hr])
        self.recognition(faces, torch.cat([labels, labels]))
        cnnr = self.networks['cnnr']
        cnnr.requires_grad_(False)
        with torch.no_grad():
            hr_features = self._run('cnnr', hr)
        loss = super_resolution_loss(sr, hr)
        loss = loss + alpha * super_identity_loss(self._run('cnnr', sr), hr_features)
        self._descend(loss, ('cnnh',))
        cnnr.requires_grad_(True)
        return float(loss.detach())

    def infer(self, lr):
        with torch.inference_mode():
            return self._run('cnnh', lr)

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
