"""The same networks, losses and updates in PyTorch, to measure ours beside.

Written as a PyTorch user who cares about speed would: channels_last, fused optimiser,
no host round trip but the loss. `load_cnnr` and `load_cnnh` copy our weights; the sizes
of a network that is not the paper's 8× one are those of its constructor.

PyTorch's ConvTranspose2d(padding=(k − 1) / 2, output_padding=1) is ours on images that
are mirrored in both directions. So the twin of CNNH mirrors its input and its output,
which costs next to nothing, and has the kernels of its convolutions mirrored: then both
compute the same numbers.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def conv(c_in, c_out, kernel_size=3, padding=None):
    """Convolution, 'same' unless a padding is given."""
    padding = kernel_size // 2 if padding is None else padding
    return nn.Conv2d(c_in, c_out, kernel_size, padding=padding)


class ResidualBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            conv(width, width), nn.PReLU(width), conv(width, width), nn.PReLU(width)
        )

    def forward(self, x):
        return x + self.body(x)


class CNNR(nn.Module):
    """Table 1."""

    def __init__(
        self, widths=(64, 128, 256, 512), depths=(1, 2, 5, 3), feature_dim=512
    ):
        super().__init__()
        layers, channels = [], 3
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for _ in range(2 if level == 0 else 1):
                layers += [conv(channels, width, padding=0), nn.PReLU(width)]
                channels = width
            layers.append(nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False))
            layers += [ResidualBlock(width) for _ in range(depth)]
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(channels * 5 * 4, feature_dim)

    def forward(self, x):
        return self.fc(self.body(x).flatten(1))


class DenseBlock(nn.Module):
    def __init__(self, width, growth, depth):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(conv(width + i * growth, growth), nn.PReLU(growth))
            for i in range(depth)
        )

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class CNNH(nn.Module):
    """Fig. 2a, 8×; 4× has the kernels (5, 5) only."""

    def __init__(
        self, width=64, growth=32, depth=6, deconv_width=256, kernels=(3, 5, 5)
    ):
        super().__init__()
        layers = [conv(3, width), nn.PReLU(width)]
        for kernel in kernels:
            layers += [
                DenseBlock(width, growth, depth),
                nn.ConvTranspose2d(
                    width + depth * growth,
                    deconv_width,
                    kernel,
                    stride=2,
                    padding=(kernel - 1) // 2,
                    output_padding=1,
                ),
                nn.PReLU(deconv_width),
                conv(deconv_width, width, 1),
                nn.PReLU(width),
            ]
        layers += [DenseBlock(width, growth, 2), conv(width + 2 * growth, 3, 5)]
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return torch.tanh(self.body(x.flip(2, 3)).flip(2, 3))


def load_cnnr(params, **sizes):
    """CNNR with the parameters of ours."""
    network = CNNR(**sizes)
    _load(network, _layers_of_cnnr(params), mirrored=False)
    # Features of the last level lie as (height, width, channel) with us.
    kernel = np.asarray(params['fc1']['kernel'])
    kernel = kernel.reshape(5, 4, -1, kernel.shape[1]).transpose(3, 2, 0, 1)
    kernel = kernel.reshape(network.fc.weight.shape)
    with torch.no_grad():
        network.fc.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        network.fc.bias.copy_(torch.tensor(np.asarray(params['fc1']['bias'])))
    return network.to(memory_format=torch.channels_last)


def load_cnnh(params, **sizes):
    """CNNH with the parameters of ours."""
    network = CNNH(**sizes)
    _load(network, _layers_of_cnnh(params), mirrored=True)
    return network.to(memory_format=torch.channels_last)


def _layers_of_cnnr(params):
    for level in (1, 2, 3, 4):
        for suffix in ('a', 'b') if level == 1 else ('',):
            yield params[f'conv{level}{suffix}']
            yield params[f'prelu{level}{suffix}']
        blocks = [name for name in params if name.startswith(f'block{level}_')]
        for block in range(1, len(blocks) + 1):
            for index in (1, 2):
                yield params[f'block{level}_{block}'][f'conv{index}']
                yield params[f'block{level}_{block}'][f'prelu{index}']


def _layers_of_cnnh(params):
    def dense_block(block):
        for layer in range(1, len(block) // 2 + 1):
            yield block[f'conv{layer}']
            yield block[f'prelu{layer}']

    yield params['stem']
    yield params['stem_prelu']
    # The 4× network has no first stage.
    for stage in (1, 2, 3) if 'deconv1' in params else (2, 3):
        yield from dense_block(params[f'dense_block{stage}'])
        for name in ('deconv', 'deconv_prelu', 'mapping', 'mapping_prelu'):
            yield params[f'{name}{stage}']
    yield from dense_block(params['dense_block_final'])
    yield params['reconstruction']


def _load(network, layers, *, mirrored):
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.PReLU)
    modules = [module for module in network.modules() if isinstance(module, kinds)]
    with torch.no_grad():
        for module, params in zip(modules, layers, strict=True):
            params = {name: np.asarray(value) for name, value in params.items()}
            if isinstance(module, nn.PReLU):
                module.weight.copy_(torch.from_numpy(params['slope'].copy()))
                continue
            if isinstance(module, nn.ConvTranspose2d):
                kernel = params['kernel'].transpose(2, 3, 0, 1)
            else:
                kernel = params['kernel'].transpose(3, 2, 0, 1)
                kernel = kernel[..., ::-1, ::-1] if mirrored else kernel
            module.weight.copy_(torch.from_numpy(kernel.copy()))
            module.bias.copy_(torch.from_numpy(params['bias'].copy()))


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
    """Eq. 2 with m = 4 and λ, as the public PyTorch SphereFaces compute it.

    But the cosines are divided by the norms of the class weights, as ours, which is
    faster than to normalise all of them.
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
    """The update steps of our `steps`, on networks with our parameters.

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
