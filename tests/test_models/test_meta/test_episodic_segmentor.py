"""Boundary-oriented episodes."""

import pytest
import torch

from hyper_mm.layers import BatchDice
from hyper_mm.registry import MODELS

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max
from ...helpers.meta import GoldenNet, Net, batch, episodes, stack


def build(model, **kwargs):
    return MODELS.build(dict(type='hyper_mm.EpisodicSegmentor', model=model, **kwargs))


def dice(logits, masks):
    return BatchDice()(logits.sigmoid(), masks)


@pytest.mark.parametrize('case', ['fo', 'so', 'clip_fo', 'clip_so', 'neg_fo'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('file', golden_files('feddg*.npz'))
def test_golden_episodic_segmentor(file, case, dtype):
    g, prefix = Golden(file, dtype), 'ep_' + case[:-2]
    clip = g['ep_clip_clip_value' if case.startswith('clip') else 'ep_clip_value'].item()
    model = GoldenNet(g.state_dict('ep_theta.'), dice)
    segmentor = build(
        model,
        inner_lr=g['ep_beta'].item(),
        clip=clip,
        first_order=case.endswith('fo'),
        boundary=dict(
            temperature=g['bnd_tau'].item(),
            loss_weight=g['ep_gamma'].item(),
            denominator='neg' if case.startswith('neg') else 'pos_neg',
        ),
    )
    data = [dict(support=batch(g['ep_x'], g['ep_y']), query=batch(g['ep_t'], g['ep_y']))]
    losses = segmentor(data, mode='loss')
    total, _ = segmentor.parse_losses(losses)
    double = dtype == torch.float64
    assert absolute(total, g.exact(f'{prefix}total')) < (1e-9 if double else 6e-7)
    if not case.startswith('neg'):
        for name, key in (('support', 'inner'), ('query', 'outer')):
            error = absolute(losses[f'loss_{name}'], g.exact(f'{prefix}{key}_dice'))
            assert error < (1e-9 if double else 6e-7)
    total.backward()
    single = 6e-6 if case.endswith('fo') else 1e-5
    for name, parameter in model.named().items():
        error = of_max(parameter.grad, g.exact(f'ep_{case}_grad.{name}'))
        assert error < (1e-9 if double else single), name


@pytest.mark.parametrize('first_order', [True, False])
def test_steps_and_statistics(first_order):
    model = Net(norm=True)
    segmentor = build(model, first_order=first_order, inner_steps=2, boundary=dict())
    losses = segmentor(episodes(2), mode='loss')
    boundary = {'loss_boundary', 'boundary_contrast/empty', 'boundary_contrast/grad_share'}
    assert {'loss_support', 'loss_query', 'meta/gain', *boundary} == {*losses}
    segmentor.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in segmentor.parameters())
    assert model.norm.num_batches_tracked == 3


def test_without_boundary_and_with_images_of_other_domains():
    data = episodes(1)
    found = build(Net(), gain_interval=0)(data, mode='loss')
    assert {*found} == {'loss_support', 'loss_query'}
    segmentor = build(Net(), boundary=dict(loss_weight=1.0))
    for part in data[0].values():  # nothing but background: no embedding, no boundary term
        for sample in part['data_samples']:
            sample.gt_sem_seg.data.zero_()
    losses = segmentor(data, mode='loss')
    assert losses['loss_boundary'] == 0 and losses['boundary_contrast/empty'] == 12


def test_support_and_query_of_different_sizes():
    x, y = torch.randn(2, 3, 8, 12), torch.randint(0, 2, (2, 1, 8, 12))
    segmentor, data = build(Net(), boundary=dict()), episodes(1)
    data[0]['query'] = batch(x, y)
    losses = segmentor(data, mode='loss')
    segmentor.parse_losses(losses)[0].backward()
    assert losses['loss_boundary'] != 0
    assert all(p.grad.isfinite().all() for p in segmentor.parameters())


def test_cascade_of_heads():
    class Cascade(Net):
        def __init__(self):
            super().__init__()
            self.decode_head = torch.nn.ModuleList([self.decode_head])

        def forward(self, inputs, data_samples=None, mode='tensor'):
            logits = self.decode_head[0](self.features(inputs))
            return dict(loss_seg=self.loss_of(logits, stack(data_samples).to(logits.dtype)))

    losses = build(Cascade(), boundary=dict(), feature='decode_head.0.conv_seg')(
        episodes(1), mode='loss'
    )
    assert losses['loss_boundary'].isfinite()


def test_bad_input():
    for feature in ('attention', 'attention.out_proj'):  # no feature map; never called
        segmentor = build(Net(attention=True), boundary=dict(), feature=feature)
        with pytest.raises(ValueError, match=f"got '{feature}'"):
            segmentor(episodes(1), mode='loss')
    with pytest.raises(ValueError, match='feature'):
        build(Net(), boundary=dict(), feature='neck')
    with pytest.raises(ValueError, match='inner_lr'):
        build(Net(), inner_lr=0)
    with pytest.raises(ValueError, match='temperature'):
        build(Net(), boundary=dict(temperature=0))
    with pytest.raises(ValueError, match='structures'):
        build(Net(), boundary=dict(), structures=[[2]])


def boundary_of(data, **options):
    """The boundary loss alone, of a model with the same weights in each call."""
    torch.manual_seed(3)
    return build(Net(), boundary=dict(), **options)(data, mode='loss')['loss_boundary']


def test_background_and_ignored_label_reach_the_boundary_loss():
    data = episodes(1)
    found = boundary_of(data)
    torch.testing.assert_close(found, boundary_of(data, structures=[[1]]))
    other = boundary_of(data, background=1)
    torch.testing.assert_close(other, boundary_of(data, structures=[[0]]))
    assert not torch.isclose(found, other)
    for part in data[0].values():
        for sample in part['data_samples']:
            sample.gt_sem_seg.data[:, :2] = 7
    torch.manual_seed(3)
    masked = Net(lambda logits, y: (logits * (y < 2)).square().mean())
    kept = build(masked, boundary=dict())(data, mode='loss')['loss_boundary']
    torch.manual_seed(3)
    masked = Net(lambda logits, y: (logits * (y < 2)).square().mean())
    ignored = build(masked, boundary=dict(), ignore_index=7)(data, mode='loss')['loss_boundary']
    assert not torch.isclose(kept, ignored)


def test_the_share_of_the_boundary_in_the_gradient():
    torch.manual_seed(0)
    data = episodes(1)
    shares = {}
    for weight in (0.0, 0.1, 2.0):
        torch.manual_seed(1)
        segmentor = build(Net(), boundary=dict(loss_weight=weight), gain_interval=2)
        losses = segmentor(data, mode='loss')
        shares[weight] = losses['boundary_contrast/grad_share'].item()
        assert 'meta/gain' in losses
        segmentor.parse_losses(losses)[0].backward()  # the graph is still there
        assert 'boundary_contrast/grad_share' not in segmentor(data, mode='loss')
    assert shares[0.0] == 0 and 0 < shares[0.1] < 1
    ratio = {w: s / (1 - s) for w, s in shares.items()}
    assert ratio[2.0] == pytest.approx(20 * ratio[0.1], rel=1e-4)
