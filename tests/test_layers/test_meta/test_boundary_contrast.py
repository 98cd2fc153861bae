"""Bands, region embeddings and the boundary contrast."""

import pytest
import torch
from scipy import ndimage

from hyper_mm.layers import Bands, BoundaryInfoNCE, boundary_bands
from hyper_mm.layers.meta.boundary_contrast import boundary_info_nce, region_embeddings

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max

FILES = golden_files('feddg*.npz')
VARIANTS = [(d, p) for d in ('pos_neg', 'neg') for p in ('ordered', 'unordered')]


@pytest.fixture(params=[torch.float32, torch.float64], ids=['float32', 'float64'])
def dtype(request):
    return request.param


def limit(dtype, single, double=1e-9):
    return 3 * single if dtype == torch.float32 else double


@pytest.mark.parametrize('file', FILES)
class TestGolden:
    def test_golden_bands(self, file):
        g = Golden(file)
        bands = boundary_bands(g['band_masks'])
        assert torch.equal(bands.boundary, g['band_boundary'])
        assert torch.equal(bands.background, g['band_background'])
        bands = boundary_bands(g['reg_masks'])
        assert torch.equal(bands.boundary, g['reg_boundary'])
        assert torch.equal(bands.background, g['reg_background'])

    def test_golden_embeddings(self, file, dtype):
        g = Golden(file, dtype)
        maps = (g['reg_Zx'], g['reg_Zt'])
        for s in range(g['reg_masks'].shape[1]):
            rows = []
            for name in ('boundary', 'background'):
                for z in maps:
                    values, found = region_embeddings(z, g[f'reg_{name}'])
                    rows.append(values[found[:, s], s])
            assert absolute(torch.cat(rows), g.exact(f'reg_emb_{s}')) < limit(dtype, 1e-6)

    @pytest.mark.parametrize('denominator, pairs', VARIANTS)
    def test_golden_loss(self, file, dtype, denominator, pairs):
        g = Golden(file, dtype)
        structures = range(g['reg_masks'].shape[1])
        cases = [('bnd', 'reg', f'_{s}') for s in structures] + [('bndx', 'bndx', '')]
        for prefix, source, suffix in cases:
            emb = g[f'{source}_emb{suffix}'].requires_grad_()
            label = g[f'{source}_label{suffix}']
            tau = g['bnd_tau'].item()
            loss = boundary_info_nce(emb, label, None, tau, denominator, pairs)
            name = f'{denominator}_{pairs}{suffix}'
            assert absolute(loss, g.exact(f'{prefix}_{name}')) < limit(dtype, 2e-6)
            if (denominator, pairs) == ('pos_neg', 'ordered'):
                official = g.exact(f'{prefix}_official{suffix}')
                assert absolute(loss, official) < limit(dtype, 2e-6)
            (grad,) = torch.autograd.grad(loss, emb)
            expected = g.exact(f'{prefix}_grad_emb_{name}')
            assert of_max(grad, expected) < limit(dtype, 2e-6)

    @pytest.mark.parametrize('denominator, pairs', VARIANTS)
    def test_golden_module(self, file, dtype, denominator, pairs):
        g = Golden(file, dtype)
        maps = [g['reg_Zx'].requires_grad_(), g['reg_Zt'].requires_grad_()]
        module = BoundaryInfoNCE(g['bnd_tau'].item(), denominator, pairs)
        found = module(maps, boundary_bands(g['reg_masks']))
        assert absolute(found.loss, g.exact(f'bnd_{denominator}_{pairs}_sum')) < limit(dtype, 3e-6)
        kept = sum(len(g[f'reg_label_{s}']) for s in range(g['reg_masks'].shape[1]))
        assert found.empty == 4 * g['reg_masks'].shape[:2].numel() - kept
        if pairs == 'ordered':
            for z, grad in zip('xt', torch.autograd.grad(found.loss, maps)):
                expected = g.exact(f'bnd_grad_Z{z}_{denominator}_ordered')  # stored as float32
                assert of_max(grad, expected) < limit(dtype, 2e-6, 1e-7)


@pytest.mark.parametrize('erode, dilate', [(1, 5), (3, 2), (50, 60)])
def test_bands_equal_morphology(erode, dilate):
    masks = torch.rand(6, 13, 17) > 0.3
    masks[0], masks[1] = False, True
    bands = boundary_bands(masks, erode, dilate)
    assert bands.boundary.dtype == torch.bool
    for m, boundary, background in zip(masks.numpy(), *bands):
        expected = m & ~ndimage.binary_erosion(m, iterations=erode)
        assert (boundary.numpy() == expected).all()
        expected = ndimage.binary_dilation(m, iterations=dilate) & ~m
        assert (background.numpy() == expected).all()


def double_loop(h, y, tau, denominator, pairs):
    h = torch.nn.functional.normalize(h, dim=-1)
    losses = []
    for m in range(len(h)):
        negatives = sum((h[m] @ h[q] / tau).exp() for q in range(len(h)) if y[q] != y[m])
        for p in range(m + 1 if pairs == 'unordered' else 0, len(h)):
            if p != m and y[p] == y[m]:
                positive = (h[m] @ h[p] / tau).exp()
                total = negatives + (positive if denominator == 'pos_neg' else 0)
                losses.append(total.log() - positive.log())
    return sum(losses) / len(losses)


@pytest.mark.parametrize('denominator, pairs', VARIANTS)
def test_loss_equals_double_loop(denominator, pairs):
    h, y = torch.randn(9, 4, dtype=torch.float64), torch.tensor([1, 1, 0, 1, 0, 0, 0, 1, 1])
    expected = double_loop(h, y, 0.1, denominator, pairs)
    assert abs(boundary_info_nce(h, y, None, 0.1, denominator, pairs) - expected) < 1e-12


@pytest.mark.parametrize('denominator, pairs', VARIANTS)
def test_invalid_rows_count_as_absent(denominator, pairs):
    h, y = torch.randn(9, 4), torch.tensor([1, 1, 0, 1, 0, 0, 0, 1, 1])
    keep = torch.tensor([1, 0, 1, 1, 1, 1, 0, 1, 1], dtype=torch.bool)
    whole = boundary_info_nce(h, y, keep, 0.1, denominator, pairs)
    part = boundary_info_nce(h[keep], y[keep], None, 0.1, denominator, pairs)
    torch.testing.assert_close(whole, part)


@pytest.mark.parametrize('fill', [0, 1])
@pytest.mark.parametrize('denominator', ['pos_neg', 'neg'])
def test_no_boundary_gives_zero_and_finite_gradients(fill, denominator):
    z = torch.randn(2, 4, 8, 8, requires_grad=True)
    masks = torch.full((2, 1, 8, 8), fill)
    found = BoundaryInfoNCE(denominator=denominator)(z, boundary_bands(masks))
    found.loss.backward()
    assert found.loss == 0 and (z.grad == 0).all()
    assert found.empty == (4 if fill == 0 else 2)


def test_zero_and_coincident_features_have_finite_gradients():
    for z in (torch.zeros(2, 4, 8, 8), torch.ones(2, 4, 8, 8)):
        masks = torch.zeros(2, 1, 8, 8)
        masks[..., 2:5, 2:5] = 1
        z.requires_grad_()
        loss = BoundaryInfoNCE(temperature=1e-3)(z, boundary_bands(masks)).loss
        loss.backward()
        assert loss.isfinite() and z.grad.isfinite().all()


def test_missing_structure_leaves_the_other_unchanged():
    z, masks = torch.randn(3, 4, 12, 12), torch.zeros(3, 2, 12, 12)
    masks[:, 0, 3:8, 3:8] = 1
    both = BoundaryInfoNCE()(z, boundary_bands(masks))
    one = BoundaryInfoNCE()(z, boundary_bands(masks[:, :1]))
    torch.testing.assert_close(both.loss, one.loss)
    assert both.per_structure[1] == 0 and both.empty == 6 and one.empty == 0


def test_maps_of_other_images_have_bands_of_their_own():
    maps = [torch.randn(2, 4, 12, 12), torch.randn(2, 4, 12, 16)]
    bands = [boundary_bands(torch.rand(2, 1, *z.shape[-2:]) > 0.5) for z in maps]
    rows = [region_embeddings(z, b[side])[0] for side in (0, 1) for z, b in zip(maps, bands)]
    labels = torch.tensor([1] * 4 + [0] * 4)
    expected = boundary_info_nce(torch.cat(rows)[:, 0], labels)
    torch.testing.assert_close(BoundaryInfoNCE()(maps, bands).loss, expected)
    one = BoundaryInfoNCE()([maps[0]] * 2, bands[0]).loss
    torch.testing.assert_close(BoundaryInfoNCE()([maps[0]] * 2, [bands[0]] * 2).loss, one)
    with pytest.raises(ValueError, match='bands'):
        BoundaryInfoNCE()(maps, bands[:1])


def test_resolutions():
    z, masks = torch.randn(2, 4, 4, 4), (torch.rand(2, 3, 16, 16) > 0.5).float()
    values, _ = region_embeddings(z, masks, 'feature')
    nearest = z.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(values, region_embeddings(nearest, masks)[0])
    values, _ = region_embeddings(z, masks, 'full')
    bilinear = torch.nn.functional.interpolate(z, (16, 16), mode='bilinear')
    torch.testing.assert_close(values, region_embeddings(bilinear, masks)[0])


def test_autocast_and_half_precision_compute_in_float32():
    z, bands = torch.randn(4, 8, 16, 16).bfloat16(), boundary_bands(torch.rand(4, 1, 16, 16) > 0.6)
    expected = BoundaryInfoNCE()(z.float(), bands).loss
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = BoundaryInfoNCE()(z, bands).loss
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(temperature=0.0), 'temperature'),
        (dict(denominator='all'), 'denominator'),
        (dict(pairs='both'), 'pairs'),
        (dict(resolution='half'), 'resolution'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        BoundaryInfoNCE(**options)


def test_bad_input():
    with pytest.raises(ValueError, match='erode'):
        boundary_bands(torch.zeros(4, 4), erode=0)
    with pytest.raises(ValueError, match='dilate'):
        boundary_bands(torch.zeros(4, 4), dilate=1.5)
    with pytest.raises(ValueError, match='masks'):
        boundary_bands(torch.zeros(4))
    with pytest.raises(ValueError, match='batch size'):
        region_embeddings(torch.zeros(2, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match='at least one'):
        BoundaryInfoNCE()([], Bands(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)))
