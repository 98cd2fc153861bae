import pytest
import torch

from hyper_mm.layers import EntailmentConeLoss, RadialEmbeddingLoss
from hyper_mm.layers.radial.radial import GEOMETRIES, RadialGeometry, text_radii

from ...conftest import golden_files, no_old_dynamo
from ...helpers.golden import Golden, absolute, of_max

LOSSES = [RadialEmbeddingLoss, EntailmentConeLoss]
GOLDEN = golden_files('radial*.npz')


@pytest.fixture(params=[torch.float32, torch.float64], ids=['float32', 'float64'])
def dtype(request):
    return request.param


def chains(tiers=4, batch=5, dim=8, dtype=torch.float32):
    embeddings = torch.randn(2, tiers, batch, dim, dtype=dtype)
    return embeddings, torch.randn(dim, dtype=dtype), torch.randn_like(embeddings)


def total(losses):
    return torch.stack(list(losses.values())).sum()


def test_weights_of_the_losses():
    batch = chains()
    plain = RadialEmbeddingLoss()(*batch)
    found = RadialEmbeddingLoss(lambda_mean=3.0, lambda_hard=0.5)(*batch)
    torch.testing.assert_close(found['loss_mean'], 3 * plain['loss_mean'])
    torch.testing.assert_close(found['loss_hard'], plain['loss_hard'] / 2)
    torch.testing.assert_close(found['loss_reg'], plain['loss_reg'])
    assert RadialEmbeddingLoss(lambda_mean=0.0)(*batch)['loss_mean'] == 0
    with pytest.raises(ValueError, match='lambda_mean'):
        RadialEmbeddingLoss(lambda_mean=-1.0)


@pytest.mark.parametrize('file', GOLDEN)
class TestGolden:
    def inputs(self, file, dtype):
        g = Golden(file, dtype)
        embeddings, root = g['E_raw'].requires_grad_(), g['root_raw'].requires_grad_()
        return g, embeddings, root

    def test_golden_angles(self, file, dtype):
        g, embeddings, root = self.inputs(file, dtype)
        angles = RadialEmbeddingLoss().angles(embeddings, root)
        error = 1.2e-6 if dtype == torch.float32 else 1e-12
        assert absolute(angles.positive, g.exact('ext_pos')) < error
        assert absolute(angles.negative, g.exact('ext_neg')) < error
        assert absolute(angles.positive - angles.negative, g.exact('L_RE')) < 1.25 * error
        assert angles.positive.argmax() == g['hard_pos_index']
        assert (-angles.negative).argmax() == g['hard_neg_index']

    def test_golden_losses(self, file, dtype):
        g, embeddings, root = self.inputs(file, dtype)
        losses = RadialEmbeddingLoss()(embeddings, root, g['E_frozen_raw'])
        error = 1.5e-6 if dtype == torch.float32 else 1e-12
        assert absolute(losses['loss_mean'], g.exact('loss_mean')) < error
        assert absolute(losses['loss_hard'], g.exact('loss_hard')) < error
        assert absolute(losses['loss_reg'] / 10, g.exact('loss_reg')) < error
        assert absolute(total(losses), g.exact('loss_total')) < error

    @pytest.mark.parametrize('part', ['total', 'mean', 'hard'])
    def test_golden_gradients(self, file, dtype, part):
        g, embeddings, root = self.inputs(file, dtype)
        losses = RadialEmbeddingLoss()(embeddings, root, g['E_frozen_raw'])
        loss = total(losses) if part == 'total' else losses[f'loss_{part}']
        found = torch.autograd.grad(loss, [embeddings, root])
        suffix = '' if part == 'total' else f'_{part}'
        error = 1.5e-6 if dtype == torch.float32 else 1e-12
        assert of_max(found[0], g.exact(f'grad_E_raw{suffix}')) < error
        assert of_max(found[1], g.exact(f'grad_root_raw{suffix}')) < error

    def test_golden_gradients_of_unit_vectors(self, file):
        g = Golden(file)
        unit = torch.nn.functional.normalize
        embeddings = unit(g['E_raw'], dim=-1).requires_grad_()
        root = unit(g['root_raw'], dim=-1).requires_grad_()
        loss = RadialEmbeddingLoss()
        found = torch.autograd.grad(
            total(loss(embeddings, root, g['E_frozen_raw'])), [embeddings, root]
        )
        # the losses do not see lengths, so only what is tangent to the sphere remains
        for grad, point, key in zip(found, (embeddings, root), ('E', 'root')):
            free = g[f'grad_{key}_unit']
            tangent = free - (free * point).sum(-1, keepdim=True) * point
            assert of_max(grad, tangent) < 1e-12

    def test_golden_radii(self, file, dtype):
        g = Golden(file, dtype)
        error = 4e-7 if dtype == torch.float32 else 1e-12
        assert absolute(text_radii(g['hc_text'], g['hc_root']), g.exact('hc_radii')) < error
        radii = [text_radii(g[f'hl_{key}'], g['hl_root']) for key in ('specific', 'general')]
        assert absolute(radii[0] - radii[1], g.exact('hl_radius_diff')) < error

    def test_golden_flat_limit_of_hyperbolic_losses(self, file):
        g = Golden(file)
        options = dict(scale=0.1, curvature=dict(init=1e-8, bounds=(1e-9, 1.0)))
        for geometry in ('poincare', 'lorentz'):
            losses = RadialEmbeddingLoss(geometry=geometry, **options)(
                g['E_raw'], g['root_raw'], g['E_frozen_raw']
            )
            assert absolute(total(losses), g.exact('loss_total')) < 1e-6


class TestGeometry:
    @pytest.mark.parametrize('geometry', GEOMETRIES)
    def test_angles_at_points_on_one_ray(self, geometry):
        space, root = RadialGeometry(geometry), torch.zeros(3)
        near, far = torch.tensor([0.1, 0.2, 0.2]), torch.tensor([0.3, 0.6, 0.6])
        near, far = space.place(near, root), space.place(far, root)
        assert space.exterior_angle(near, far) < 1e-3
        assert space.exterior_angle(far, near) > 3.14

    def test_ball_and_hyperboloid_are_one_space(self):
        embeddings, root, _ = chains(dtype=torch.float64)
        ball = RadialEmbeddingLoss(geometry='poincare', scale=0.5).double()
        sheet = RadialEmbeddingLoss(geometry='lorentz', scale=1.0).double()
        for a, b in zip(ball.angles(embeddings, root)[:2], sheet.angles(embeddings, root)[:2]):
            torch.testing.assert_close(a, b)

    def test_curvature_bends_angles_and_is_learnable(self):
        embeddings, root, frozen = chains()
        loss = RadialEmbeddingLoss(geometry='lorentz', curvature=dict(learnable=True))
        flat = RadialEmbeddingLoss().angles(embeddings, root).positive
        assert (loss.angles(embeddings, root).positive - flat).abs().max() > 1e-2
        total(loss(embeddings, root, frozen)).backward()
        assert loss.space.curvature.log.grad.abs() > 0
        assert not list(RadialEmbeddingLoss(geometry='lorentz').parameters())


@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('kind', LOSSES)
class TestBothLosses:
    def test_finite_for_duplicates_and_the_root_itself(self, kind, geometry):
        embeddings, root, frozen = chains()
        embeddings[0, 1] = embeddings[0, 0]  # a tier repeated
        embeddings[1, 0, 0] = embeddings[0, 0, 0]  # a contradiction that is the caption
        embeddings[0, 2, 1] = root
        embeddings[:, :, 2] = root
        embeddings[0, 0, 3] = 0
        embeddings.requires_grad_()
        root.requires_grad_()
        losses = kind(geometry=geometry)(embeddings, root, frozen)
        grads = torch.autograd.grad(total(losses), [embeddings, root])
        assert total(losses).isfinite() and all(g.isfinite().all() for g in grads)

    def test_finite_far_out(self, kind, geometry):
        embeddings, root, frozen = chains()
        embeddings[0, :, 0] = -root.expand(4, -1)  # as far as it gets
        embeddings.requires_grad_()
        scale = dict(euclidean=1e3, poincare=3.5, lorentz=19.0)[geometry]
        losses = kind(geometry=geometry, scale=scale)(embeddings, root, frozen)
        total(losses).backward()
        assert total(losses).isfinite() and embeddings.grad.isfinite().all()

    def test_training_orders_the_chain(self, kind, geometry):
        embeddings, root, frozen = chains()
        loss = kind(lambda_reg=0, geometry=geometry)
        embeddings.requires_grad_()
        optimizer = torch.optim.Adam([embeddings], lr=0.02)
        before = loss.angles(embeddings, root)
        for _ in range(150):
            optimizer.zero_grad()
            total(loss(embeddings, root)).backward()
            optimizer.step()
        after = loss.angles(embeddings, root)
        assert after.positive.mean() < before.positive.mean() - 0.3
        assert after.positive.mean() < after.negative.mean()
        assert embeddings.isfinite().all()

    def test_bfloat16_under_autocast_is_computed_in_float32(self, kind, geometry):
        embeddings, root, frozen = (x.bfloat16() for x in chains())
        loss = kind(geometry=geometry)
        expected = loss(embeddings.float(), root.float(), frozen.float())
        with torch.autocast('cpu', torch.bfloat16):
            found = loss(embeddings, root, frozen)
        for name, value in expected.items():
            assert found[name].dtype == torch.float32
            torch.testing.assert_close(found[name], value)

    @no_old_dynamo
    def test_compiles_whole(self, kind, geometry):
        embeddings, root, frozen = chains()
        loss, fast = (kind(geometry=geometry, lambda_reg=2.0) for _ in range(2))
        fast = torch.compile(fast, backend='eager', fullgraph=True)
        embeddings.requires_grad_()
        expected, found = (total(f(embeddings, root, frozen)) for f in (loss, fast))
        torch.testing.assert_close(found, expected)
        grads = [torch.autograd.grad(value, embeddings)[0] for value in (expected, found)]
        torch.testing.assert_close(*grads)

    def test_gradients_are_right(self, kind, geometry):
        embeddings, root, frozen = chains(3, 2, 4, torch.float64)
        loss = kind(geometry=geometry).double()
        torch.autograd.gradcheck(
            lambda e, r: total(loss(e, r, frozen)),
            (embeddings.requires_grad_(), root.requires_grad_()),
        )


class TestCone:
    def test_is_zero_where_all_successors_lie_in_the_cones(self):
        loss = EntailmentConeLoss(lambda_reg=0, lambda_negative=0)
        angle = torch.tensor([0.2, 0.6, 1.0, 1.4])
        chain = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
        embeddings = torch.stack([chain, chain])
        root = torch.tensor([1.0, 0.0])
        assert loss(embeddings, root)['loss_cone'] > 0
        assert EntailmentConeLoss(0, 0, min_radius=1.0)(embeddings, root)['loss_cone'] == 0

    def test_negatives_inside_the_cone_cost_the_margin(self):
        embeddings, root, _ = chains()
        losses = EntailmentConeLoss(0, margin=0.3, min_radius=5.0)(embeddings, root)
        assert losses['loss_negative'].item() <= 0.3 + 1e-6
        assert losses['loss_negative'].item() > 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(geometry='flat'), "geometry.*'flat'"),
        (dict(scale=0.0), 'scale must be positive, got 0'),
        (dict(curvature=dict(init=1.0)), 'curvature must be None'),
        (dict(geometry='poincare', scale=4.0), "scale must be at most 3.5 for geometry='poincare'"),
        (dict(geometry='lorentz', scale=20.0), 'scale must be at most 19'),
        (dict(lambda_reg=-1.0), 'lambda_reg must not be negative'),
    ],
)
@pytest.mark.parametrize('kind', LOSSES)
def test_bad_arguments(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_bad_inputs():
    embeddings, root, frozen = chains()
    with pytest.raises(ValueError, match='lambda_hard'):
        RadialEmbeddingLoss(lambda_hard=-1)
    with pytest.raises(ValueError, match='min_radius'):
        EntailmentConeLoss(min_radius=0)
    loss = RadialEmbeddingLoss()
    with pytest.raises(ValueError, match='frozen must have.*None'):
        loss(embeddings, root)
    with pytest.raises(ValueError, match='frozen must have'):
        loss(embeddings, root, frozen[:, :2])
    with pytest.raises(ValueError, match='embeddings must have'):
        loss(embeddings[0], root, frozen)
    with pytest.raises(ValueError, match='root must have'):
        loss(embeddings, root[None], frozen)
