"""Decomposer, encoder and contrastive loss of Hi-Mapper in plain loops."""

import math

import torch
import torch.nn.functional as F

DIM, WIDTH, HEADS = 12, 8, 2


def randomised(module):
    """The module in float64 without dropout, with weights that all matter."""
    module = module.double().eval()
    for name, parameter in module.named_parameters():
        torch.nn.init.normal_(parameter, float('norm' in name), 0.4)
    return module


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


class Reference:
    """Weights by name, applied one token, one head and one image at a time."""

    def __init__(self, module):
        self.w = module.state_dict()

    def linear(self, name, x):
        y = x @ self.w[f'{name}.weight'].T
        return y + self.w[f'{name}.bias'] if f'{name}.bias' in self.w else y

    def norm(self, name, x):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return x * self.w[f'{name}.weight'] + self.w[f'{name}.bias']

    def tokens(self, name, x):
        return self.linear(f'{name}.1', self.norm(f'{name}.0', x))

    def memory(self, x):
        return self.norm('memory_proj.2', self.tokens('memory_proj', x))

    def attention(self, name, query, memory, scale):
        q, k, v = (
            self.linear(f'{name}.{p}_proj', x)
            for p, x in (('q', query), ('k', memory), ('v', memory))
        )
        size, rows = WIDTH // HEADS, []
        for i in range(len(q)):
            heads = []
            for h in range(HEADS):
                part = slice(h * size, (h + 1) * size)
                logits = torch.stack([scale * q[i, part] @ k[j, part] for j in range(len(k))])
                heads.append(logits.softmax(0) @ v[:, part])
            rows.append(torch.cat(heads))
        return self.linear(f'{name}.proj', torch.stack(rows))

    def mlp(self, name, x):
        return self.linear(f'{name}.3', F.gelu(self.linear(f'{name}.0', x)))

    def decompose(self, image, samples, copies, cross_scale):
        """Nodes of one level of one image, and its samples."""
        x = self.tokens('query_proj', samples)
        memory = self.memory(image)
        x = x + self.attention('block.cross_attn', self.norm('block.norm1', x), memory, cross_scale)
        y = self.norm('block.norm2', x)
        x = x + self.attention('block.self_attn', y, y, (WIDTH // HEADS) ** -0.5)
        x = x + self.mlp('block.mlp', self.norm('block.norm3', x))
        nodes = torch.stack([x[i : i + copies].mean(0) for i in range(0, len(x), copies)])
        return self.tokens('out_proj', nodes), self.tokens('out_proj', x)

    def encode(self, token, levels):
        """Update of one token by one image, after every level."""
        x, states = self.tokens('query_proj', token[None]), []
        for i, nodes in enumerate(levels):
            block = f'blocks.{i}'
            memory, scale = self.memory(nodes), (WIDTH // HEADS) ** -0.5
            y = self.norm(f'{block}.norm1', x)
            x = x + self.attention(f'{block}.cross_attn', y, memory, scale)
            y = self.linear(f'{block}.value', self.norm(f'{block}.norm2', x))
            x = x + self.linear(f'{block}.proj', y)
            x = x + self.mlp(f'{block}.mlp', self.norm(f'{block}.norm3', x))
            states.append(self.tokens('out_proj', x)[0])
        return states


NODES = (8, 4, 2)


def contrastive_loss(distances, sign=-1, tau=1.0, include_positive=True, weights=(1.0, 1.0)):
    """The loss node by node, for the tree NODES."""
    total, start = 0.0, 0
    for weight, count in zip(weights, NODES):
        terms = []
        for d in distances.tolist():
            for i in range(count):
                positive = math.exp(sign * d[start + i][start + count + i // 2] / tau)
                negatives = sum(
                    math.exp(sign * d[start + i][start + j] / tau) for j in range(count) if j != i
                )
                terms.append(-math.log(positive / (negatives + include_positive * positive)))
        total += weight * sum(terms) / len(terms)
        start += count
    return total
