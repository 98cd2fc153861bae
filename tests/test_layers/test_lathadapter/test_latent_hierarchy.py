import copy
import itertools

import pytest
import torch

from hyper_mm.layers import AttributeRefiner, LatentHierarchyLoss
from hyper_mm.layers.lathadapter.latent_hierarchy import automatic_attributes, joint_logits
from tests.helpers.tools import load_tool


def unit_rows(*shape, dtype=torch.float32):
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=dtype), dim=-1)


def reference_triplets(distances, labels, neighbors, min_positives):
    """All valid triplets, by loops."""
    n = len(distances)
    nearest = []
    for i in range(n):
        same = [j for j in range(n) if j != i and labels is not None and labels[j] == labels[i]]
        order = sorted(
            (j for j in range(n) if j != i),
            key=lambda j: int(j not in same) - torch.exp(-distances[i, j]).item(),
        )
        nearest.append({i, *order[: neighbors - 1]})
    found = set()
    for i in range(n):
        mutual = {j for j in nearest[i] if i in nearest[j]}
        if len(mutual - {i}) >= min_positives:
            found |= set(itertools.product([i], mutual - {i}, set(range(n)) - mutual))
    return found


class TestAutomaticAttributes:
    @pytest.mark.parametrize('classes, count', [(1, 4), (100, 4), (101, 5), (397, 16), (1000, 24)])
    def test_values(self, classes, count):
        assert automatic_attributes(classes) == count

    def test_bad_input(self):
        with pytest.raises(ValueError, match='num_classes'):
            automatic_attributes(0)


class TestAttributeRefiner:
    @pytest.mark.parametrize('affinity', ['relu', 'raw', 'softmax'])
    @pytest.mark.parametrize('classes', [1, 2, 200])
    def test_finite(self, affinity, classes):
        refiner = AttributeRefiner(4, 16, affinity=affinity)
        text = unit_rows(classes, 16).requires_grad_()
        refined = refiner(text)
        assert refined.shape == text.shape
        refined.sum().backward()
        for tensor in (refined, text.grad, refiner.attributes.grad):
            assert tensor.isfinite().all()

    def test_zero_vectors(self):
        refiner = AttributeRefiner(3, 8)
        text = torch.zeros(5, 8, requires_grad=True)
        refiner(text).sum().backward()
        assert text.grad.isfinite().all() and refiner.attributes.grad.isfinite().all()

    def test_no_strength_changes_nothing(self):
        text = unit_rows(6, 8)
        assert torch.equal(AttributeRefiner(4, 8, beta=0.0)(text), text)

    def test_softmax_is_an_average(self):
        refiner = AttributeRefiner(4, 8, affinity='softmax', beta=1.0)
        features = torch.ones(5, 8)
        refiner.attributes.data.fill_(1.0)
        torch.testing.assert_close(refiner(features), 2 * features)

    def test_start_at_the_mean_text(self):
        refiner = AttributeRefiner(500, 8, init_std=0.02)
        text = unit_rows(10, 8)
        refiner.init_from_text(text)
        offsets = refiner.attributes - text.mean(0)
        assert offsets.std().item() == pytest.approx(0.02, rel=0.1)

    def test_low_precision(self):
        refiner = AttributeRefiner(4, 8)
        text = unit_rows(6, 8)
        expected = refiner(text)
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(refiner(text), expected)
        assert refiner(text.bfloat16()).dtype == torch.float32

    def test_gradients(self):
        refiner = AttributeRefiner(2, 4).double()
        text = unit_rows(3, 4, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(refiner, text)

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(num_attributes=0), 'num_attributes'),
            (dict(beta=-1.0), 'beta'),
            (dict(affinity='cos'), 'affinity'),
            (dict(init_std=0.0), 'init_std'),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            AttributeRefiner(**{**dict(num_attributes=4, dim=8), **options})

    def test_wrong_width(self):
        with pytest.raises(ValueError, match=r'\(C, 8\)'):
            AttributeRefiner(4, 8)(torch.randn(3, 6))


class TestTriplets:
    @pytest.mark.parametrize('min_positives', [1, 2])
    @pytest.mark.parametrize('labelled', [True, False])
    def test_all_valid(self, min_positives, labelled):
        loss = LatentHierarchyLoss(neighbors=4, max_triplets=1000, min_positives=min_positives)
        for _ in range(5):
            distances = torch.rand(12, 12)
            distances = distances + distances.T
            labels = torch.randint(0, 5, (12,)) if labelled else None
            triplets, valid = loss.triplets(distances, labels)
            found = [tuple(t) for t in triplets[valid].tolist()]
            assert len(found) == len(set(found))
            assert set(found) == reference_triplets(distances, labels, 4, min_positives)

    def test_cap(self):
        loss = LatentHierarchyLoss(neighbors=4, max_triplets=5)
        distances = torch.cdist(torch.randn(20, 3), torch.randn(20, 3))
        distances = distances + distances.T
        triplets, valid = loss.triplets(distances)
        counts = triplets[valid, 0].bincount(minlength=20)
        assert counts.max() == 5
        everything = reference_triplets(distances, None, 4, 1)
        assert {tuple(t) for t in triplets[valid].tolist()} <= everything

    @pytest.mark.parametrize('count', [1, 2, 3])
    def test_coincident_points(self, count):
        triplets, valid = LatentHierarchyLoss().triplets(torch.zeros(count, count))
        i, j, k = triplets[valid].unbind(1)
        assert (i != j).all() and (i != k).all() and (j != k).all()


class TestLatentHierarchyLoss:
    @pytest.mark.parametrize('hard', [True, False])
    @pytest.mark.parametrize('batch', [1, 2, 3, 4, 17])
    def test_finite(self, batch, hard):
        points = unit_rows(batch, 8).requires_grad_()
        ancestors = (0.1 * torch.randn(5, 8)).requires_grad_()
        labels = torch.randint(0, 3, (batch,))
        value = LatentHierarchyLoss(hard=hard)(points, ancestors, labels)
        value.backward()
        for tensor in (value, points.grad, ancestors.grad):
            assert tensor.isfinite().all()

    @pytest.mark.parametrize('min_positives', [1, 2])
    def test_equals_a_loop(self, min_positives):
        benchmark = load_tool('benchmarks/lathadapter.py')
        loss = benchmark.noiseless(
            neighbors=4, margin=0.5, max_triplets=1000, min_positives=min_positives
        )
        points = unit_rows(14, 6, dtype=torch.float64).requires_grad_()
        ancestors = unit_rows(5, 6, dtype=torch.float64).requires_grad_()
        given = points, ancestors, torch.randint(0, 5, (14,))
        values = loss(*given), benchmark.loop_loss(loss, *given, noisy=False)
        assert values[0] > 0
        grads = [torch.autograd.grad(value, given[:2]) for value in values]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*grads)

    def test_official_curvature(self):
        loss = LatentHierarchyLoss(curvature=0.1, compat='official')
        assert loss.c == torch.tensor(0.1).item() != loss.gradient_c == 0.1
        assert LatentHierarchyLoss(curvature=0.1).c == 0.1

    @pytest.mark.parametrize('scale', [0.0, 1e-6, 100.0])
    def test_extreme_points(self, scale):
        points = (scale * unit_rows(8, 4)).requires_grad_()
        ancestors = (scale * unit_rows(4, 4)).requires_grad_()
        LatentHierarchyLoss()(points, ancestors).backward()
        assert points.grad.isfinite().all() and ancestors.grad.isfinite().all()

    def test_nothing_to_compare(self):
        points = torch.randn(1, 4, requires_grad=True)
        value = LatentHierarchyLoss()(points, torch.randn(3, 4))
        value.backward()
        assert value == 0 and (points.grad == 0).all()

    def test_one_ancestor(self):
        assert LatentHierarchyLoss()(unit_rows(8, 4), unit_rows(1, 4)) == 0

    def test_low_precision(self):
        loss = LatentHierarchyLoss(max_triplets=1000)
        points, ancestors = unit_rows(8, 4), unit_rows(4, 4)
        values = []
        for enabled in (True, False):
            torch.manual_seed(1)
            with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
                values.append(loss(points, ancestors))
        assert torch.equal(*values)
        assert loss(points.bfloat16(), ancestors.bfloat16()).dtype == torch.float32

    def test_training_orders_two_groups(self):
        centres = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
        points = centres.repeat_interleave(8, 0) + 0.1 * torch.randn(16, 2)
        ancestors = torch.nn.Parameter(0.1 * torch.randn(3, 2))
        loss = LatentHierarchyLoss(margin=0.5)
        labels = torch.arange(2).repeat_interleave(8)
        optimizer = torch.optim.Adam([ancestors], 0.02)
        values = []
        for _ in range(150):
            optimizer.zero_grad()
            values.append(loss(points, ancestors, labels))
            values[-1].backward()
            optimizer.step()
        assert sum(values[-20:]) < 0.5 * sum(values[:20])

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(curvature=0.0), 'curvature must'),
            (dict(margin=-1.0), 'margin'),
            (dict(tau=0.0), 'tau'),
            (dict(neighbors=1), 'neighbors'),
            (dict(max_triplets=0), 'max_triplets'),
            (dict(clip_radius=0.0), 'clip_radius'),
            (dict(compat='hier'), 'compat'),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            LatentHierarchyLoss(**options)

    @pytest.mark.parametrize(
        'points, ancestors, labels',
        [((4, 8), (3, 6), (4,)), ((4, 8), (0, 8), (4,)), ((4, 8), (3, 8), (5,))],
    )
    def test_bad_shapes(self, points, ancestors, labels):
        with pytest.raises(ValueError, match='must'):
            LatentHierarchyLoss()(
                torch.randn(points), torch.randn(ancestors), torch.zeros(labels, dtype=torch.long)
            )

    def test_copies(self):
        assert repr(copy.deepcopy(LatentHierarchyLoss())) == repr(LatentHierarchyLoss())


def test_hyperbolic_logits_hardly_move_unit_features():
    image, text = unit_rows(50, 64), unit_rows(20, 64)
    cosine, hyperbolic = joint_logits(image, text)
    assert hyperbolic.std() < 0.05 * cosine.std()
    strong = joint_logits(image, text, hyp_tau=0.01)[1]
    torch.testing.assert_close(strong, 100 * hyperbolic)
