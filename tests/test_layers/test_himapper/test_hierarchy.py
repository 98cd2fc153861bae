"""The decomposer and the encoder against a reading of the specification in plain loops."""

import pytest
import torch
import torch.nn.functional as F

from hyper_mm.layers import HierarchyDecomposer, HierarchyEncoder, HierarchyTree, Queries

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


@pytest.fixture
def tree():
    return HierarchyTree(DIM, 8, 3).double()


@pytest.fixture
def decomposer():
    return randomised(HierarchyDecomposer(DIM, WIDTH, HEADS, scale=1.7))


@pytest.fixture
def encoder():
    return randomised(HierarchyEncoder(DIM, 3, WIDTH, HEADS))


class TestDecomposer:
    @pytest.mark.parametrize('max_samples', [None, 1, 3])
    @pytest.mark.parametrize('sample', [True, False])
    def test_equals_the_formulas(self, decomposer, sample, max_samples):
        queries = HierarchyTree(DIM, 8, 3, max_samples=max_samples).double()(sample)
        memory = random(2, 5, DIM)
        found = decomposer(memory, queries, with_samples=True)
        parts = queries.samples.split([n * k for n, k in zip(queries.nodes, queries.copies)])
        reference = Reference(decomposer)
        for level, (samples, copies) in enumerate(zip(parts, queries.copies)):
            for image in range(2):
                nodes, full = reference.decompose(memory[image], samples, copies, 1.7)
                torch.testing.assert_close(found.levels[level][image], nodes)
                torch.testing.assert_close(found.samples[level][image], full)

    def test_one_query_for_each_mean_equals_copies_of_it(self, decomposer, tree):
        once = tree(sample=False)
        means = once.samples.split(once.nodes)
        copies = Queries(
            torch.cat([m.repeat_interleave(k, 0) for m, k in zip(means, tree.copies)]),
            tree.nodes,
            tree.copies,
        )
        memory = random(2, 5, DIM)
        for a, b in zip(decomposer(memory, once).levels, decomposer(memory, copies).levels):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize('length', [1, 2, 49, 300])
    def test_any_memory_length(self, decomposer, tree, length):
        levels = decomposer(random(2, length, DIM), tree()).levels
        assert [x.shape for x in levels] == [(2, n, DIM) for n in (8, 4, 2)]
        assert all(x.isfinite().all() for x in levels)

    def test_images_do_not_see_each_other(self, decomposer, tree):
        memory, queries = random(4, 5, DIM), tree()
        together = decomposer(memory, queries).levels
        for image in range(4):
            alone = decomposer(memory[image : image + 1], queries).levels
            for a, b in zip(alone, together):
                torch.testing.assert_close(a[0], b[image])

    @pytest.mark.parametrize('sample', [True, False])
    def test_levels_do_not_see_each_other(self, decomposer, tree, sample):
        queries = tree(sample)
        memory = random(1, 5, DIM)
        samples = queries.samples.clone().requires_grad_()
        levels = decomposer(memory, queries._replace(samples=samples)).levels
        sizes = [n * k for n, k in zip(queries.nodes, queries.copies)]
        for level, nodes in enumerate(levels):
            (grad,) = torch.autograd.grad(nodes.square().sum(), samples, retain_graph=True)
            touched = [(part != 0).any().item() for part in grad.split(sizes)]
            assert touched == [i == level for i in range(3)]

    def test_order_of_the_memory_does_not_matter(self, decomposer, tree):
        memory, queries = random(2, 9, DIM), tree()
        shuffled = memory[:, torch.randperm(9)]
        for a, b in zip(decomposer(memory, queries).levels, decomposer(shuffled, queries).levels):
            torch.testing.assert_close(a, b)

    def test_samples_only_where_asked_for(self, decomposer, tree):
        assert decomposer(random(1, 5, DIM), tree()).samples is None

    @pytest.mark.parametrize('sample', [True, False])
    def test_attention_is_that_of_the_forward_pass(self, decomposer, tree, sample):
        queries, memory = tree(sample), random(2, 5, DIM)
        weights = decomposer.attention(memory, queries)
        assert [w.shape for w in weights] == [(2, n, 5) for n in (8, 4, 2)]
        for w in weights:
            torch.testing.assert_close(w.sum(-1), torch.ones_like(w[..., 0]))
        captured = {}

        def keep(module, inputs, output):
            captured['query'], captured['memory'] = inputs

        decomposer.block.cross_attn.register_forward_hook(keep)
        decomposer(memory, queries)
        query, kv = captured['query'], captured['memory']
        reference = Reference(decomposer)
        q = reference.linear('block.cross_attn.q_proj', query).unflatten(-1, (HEADS, -1))
        k = reference.linear('block.cross_attn.k_proj', kv).unflatten(-1, (HEADS, -1))
        expected = (1.7 * torch.einsum('qhd,bmhd->bhqm', q, k)).softmax(-1).mean(1)
        start = 0
        for w, nodes, copies in zip(weights, queries.nodes, queries.copies):
            for k in range(nodes):
                rows = expected[:, start + k * copies : start + (k + 1) * copies]
                torch.testing.assert_close(w[:, k], rows.mean(1))
            start += nodes * copies

    def test_default_scale_is_the_released_one(self):
        cross = HierarchyDecomposer(DIM, 128, 4).block.cross_attn
        assert cross.scale == pytest.approx(1 / 0.07)
        assert HierarchyDecomposer(DIM, 128, 4, None).block.cross_attn.scale == 32**-0.5
        assert HierarchyDecomposer(DIM, 128, 4).block.self_attn.scale == 32**-0.5

    def test_initial_weights(self):
        made = HierarchyDecomposer(DIM, 128, 4)
        for name, parameter in made.named_parameters():
            if parameter.ndim == 2:
                assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name
            else:
                is_scale = name.endswith('weight')
                assert (parameter == float(is_scale)).all(), name


class TestEncoder:
    def test_equals_the_formulas(self, encoder):
        tokens = random(2, 3, DIM)
        levels = tuple(random(2, n, DIM) for n in (8, 4, 2))
        states = encoder(tokens, levels, every_level=True)
        last = encoder(tokens, levels)
        assert states.shape == (3, 2, 3, DIM)
        reference = Reference(encoder)
        for image in range(2):
            for token in range(3):
                expected = reference.encode(tokens[image, token], [x[image] for x in levels])
                torch.testing.assert_close(states[:, image, token], torch.stack(expected))
                torch.testing.assert_close(last[image, token], expected[-1])

    def test_tokens_do_not_see_each_other(self, encoder):
        tokens, levels = random(2, 3, DIM), tuple(random(2, n, DIM) for n in (8, 4, 2))
        together = encoder(tokens, levels)
        for token in range(3):
            alone = encoder(tokens[:, token : token + 1], levels)
            torch.testing.assert_close(alone[:, 0], together[:, token])

    def test_every_level_counts(self, encoder):
        levels = [random(1, n, DIM).requires_grad_() for n in (8, 4, 2)]
        encoder(random(1, 1, DIM), tuple(levels)).square().sum().backward()
        assert all((x.grad != 0).any(-1).all() for x in levels)

    def test_zero_init_out(self):
        made = HierarchyEncoder(DIM, 3, WIDTH, HEADS, zero_init_out=True)
        levels = tuple(torch.randn(2, n, DIM) for n in (8, 4, 2))
        update = made(torch.randn(2, 1, DIM), levels)
        assert (update == 0).all()
        update.sum().backward()
        assert (made.out_proj[1].weight.grad != 0).any()

    def test_one_block_a_level(self):
        assert len(HierarchyEncoder(DIM, 5, WIDTH, HEADS).blocks) == 5
