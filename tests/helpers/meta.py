"""Small models and episodes for the tests of meta-learning."""

from types import SimpleNamespace

import torch
from mmengine.model import BaseModel
from torch import nn
from torch.nn import functional as F


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_classes = 2
        self.conv_seg = nn.Conv2d(4, 1, 1)

    def forward(self, z):
        return self.conv_seg(z)


class Net(BaseModel):
    """Two layers and a head; ``loss_of(logits, masks)`` is its loss."""

    def __init__(self, loss_of=None, norm=False, attention=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True) if attention else None
        self.decode_head = Head()
        self.loss_of = loss_of or F.binary_cross_entropy_with_logits

    def features(self, x):
        z = self.norm(torch.tanh(self.conv(x)))
        if self.attention is not None:
            tokens = z.flatten(2).mT
            tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0]
            z = z + tokens.mT.unflatten(-1, z.shape[-2:])
        return z

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.decode_head(self.features(inputs))
        if mode == 'loss':
            return dict(loss_seg=self.loss_of(logits, stack(data_samples).to(logits.dtype)))
        return list(logits)


class GoldenNet(Net):
    """The net of the golden vectors."""

    def __init__(self, theta, loss_of=None):
        super().__init__(loss_of)
        self.conv, self.second = conv(theta['w1'], theta['b1']), conv(theta['w2'], theta['b2'])
        self.decode_head.conv_seg = conv(theta['w3'], theta['b3'])

    def features(self, x):
        return torch.tanh(self.second(torch.tanh(self.conv(x))))

    def named(self):
        layers = zip('123', (self.conv, self.second, self.decode_head.conv_seg))
        return {f'{n}{i}': p for i, m in layers for n, p in (('w', m.weight), ('b', m.bias))}


def conv(weight, bias):
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding='same')
    layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return layer


def stack(samples):
    return torch.stack([sample.gt_sem_seg.data for sample in samples])


def batch(x, y):
    """A batch as a data preprocessor would return it."""
    samples = [SimpleNamespace(gt_sem_seg=SimpleNamespace(data=labels)) for labels in y]
    return dict(inputs=x, data_samples=samples)


def episodes(count=2, images=3, dtype=torch.float32):
    def part():
        x = torch.randn(images, 3, 8, 7, dtype=dtype)
        return batch(x, torch.randint(0, 2, (images, 1, 8, 7)))

    return [dict(support=part(), query=part()) for _ in range(count)]
