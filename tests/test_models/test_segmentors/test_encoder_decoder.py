import copy
import warnings

import pytest
import torch

pytest.importorskip('mmseg')

import mmseg.models  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.model import MMDistributedDataParallel  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

from hyper_mm.models import CascadeEncoderDecoder, EncoderDecoder  # noqa: E402
from hyper_mm.models.utils.aux_losses import collect_losses  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402

pytestmark = pytest.mark.mmseg

SIZE, CLASSES = 32, 3
DIAGNOSTICS = {
    f'hi_mapper/{n}' for n in ('capped', 'curvature', 'gate', 'radius_1', 'radius_2', 'radius_3')
}


def head(**options):
    return dict(
        type='mmseg.FCNHead',
        in_channels=16,
        in_index=1,
        channels=8,
        num_convs=1,
        concat_input=False,
        num_classes=CLASSES,
        align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss'),
        **options,
    )


def config(scope='hyper_mm', kind='EncoderDecoder', neck=None, **options):
    """A ViT of two layers with Hi-Mapper on the last."""
    return ConfigDict(
        type=f'{scope}.{kind}',
        data_preprocessor=dict(
            type='mmseg.SegDataPreProcessor', size=(SIZE, SIZE), mean=[0.0] * 3, std=[1.0] * 3
        ),
        backbone=dict(
            type='mmseg.VisionTransformer',
            img_size=(SIZE, SIZE),
            patch_size=8,
            embed_dims=16,
            num_layers=2,
            num_heads=2,
            mlp_ratio=2,
            out_indices=(0, 1),
            output_cls_token=True,
        ),
        neck=dict(
            type='hyper_mm.HiMapper',
            in_channels=16,
            num_leaves=8,
            num_levels=3,
            width=8,
            num_heads=2,
            hyp_dim=6,
            **(neck or {}),
        ),
        **{'decode_head': head(), 'train_cfg': dict(), 'test_cfg': dict(mode='whole'), **options},
    )


def cascade(scope='hyper_mm', **options):
    """The same with two decode heads in a row."""
    refine = {**head(), 'type': 'mmseg.OCRHead', 'ocr_channels': 8}
    del refine['num_convs'], refine['concat_input']
    heads = dict(decode_head=[head(), refine], num_stages=2)
    return config(scope, 'CascadeEncoderDecoder', **heads, **options)


def batch(size=2, height=SIZE, width=SIZE):
    """Images whose label is the sign of their first channel."""
    images, samples = torch.randn(size, 3, height, width), []
    for image in images:
        image += torch.randn(3, 1, 1)
        meta = dict(img_shape=(height, width), ori_shape=(height, width))
        label = (image[:1] > 0).long()
        samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=label)))
    return dict(inputs=list(images), data_samples=samples)


def optimizer(model, lr=1e-2):
    return OptimWrapper(torch.optim.AdamW(model.parameters(), lr=lr))


def step(model, data):
    """Losses of a batch, as the training loop has them."""
    data = model.data_preprocessor(copy.deepcopy(data), training=True)
    return model(**data, mode='loss')


MODES = {'EncoderDecoder': config, 'CascadeEncoderDecoder': cascade}


@pytest.mark.parametrize('make', MODES.values(), ids=MODES)
class TestLosses:
    def test_of_neck_and_heads(self, make):
        losses = step(MODELS.build(make()), batch())
        assert {'loss_hier_cont', 'loss_hier_kl'} < losses.keys()
        assert losses.keys() > DIAGNOSTICS
        assert any('decode' in name and 'loss' in name for name in losses)
        total, logged = MODELS.build(make()).parse_losses(losses)
        expected = sum(value.mean() for name, value in losses.items() if 'loss' in name)
        torch.testing.assert_close(total, expected)
        assert logged.keys() > DIAGNOSTICS

    def test_stock_losses_stay_the_same(self, make):
        """The closed gate starts with the stock model, which has the same losses."""
        model = MODELS.build(make()).eval()
        stock = MODELS.build(make('mmseg')).eval()
        stock.load_state_dict(model.state_dict())
        data = batch()
        ours, theirs = step(model, data), step(stock, data)
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value)

    def test_without_weights_there_is_nothing_to_add(self, make):
        neck = dict(contrastive_weight=0.0, kl_weight=0.0)
        losses = step(MODELS.build(make(neck=neck)), batch())
        assert not [name for name in losses if 'hier' in name]

    def test_is_the_stock_class(self, make):
        model = MODELS.build(make())
        assert isinstance(model, getattr(mmseg.models, type(model).__name__))

    def test_training_lowers_the_total_loss(self, make):
        model, data = MODELS.build(make()), batch(4)
        wrapper, history = optimizer(model), []
        for _ in range(12):
            log = model.train_step(copy.deepcopy(data), wrapper)
            history.append(log['loss'].item())
        assert history[-1] < 0.8 * history[0]
        assert model.neck.fusion.gate.abs().max() > 0


def test_names():
    assert MODELS.get('hyper_mm.EncoderDecoder') is EncoderDecoder
    assert MODELS.get('hyper_mm.CascadeEncoderDecoder') is CascadeEncoderDecoder


def test_hierarchical_loss_falls_when_it_is_trained():
    model, data = MODELS.build(config(neck=dict(contrastive_weight=1.0))), batch(4)
    wrapper, history = optimizer(model, 2e-2), []
    for _ in range(20):
        history.append(model.train_step(copy.deepcopy(data), wrapper)['loss_hier_cont'].item())
    assert sum(history[-3:]) < 0.9 * sum(history[:3])


def test_every_parameter_is_trained():
    model = MODELS.build(config(neck=dict(gate_init=0.5)))
    total, _ = model.parse_losses(step(model, batch()))
    total.backward()
    for name, parameter in model.neck.named_parameters():
        assert (parameter.grad != 0).any(), name


def test_batch_of_one():
    losses = step(MODELS.build(config()), batch(1))
    assert all(value.isfinite().all() for value in losses.values())


def test_inner_neck():
    inner = dict(type='mmseg.MultiLevelNeck', in_channels=[16, 16], out_channels=16, scales=[2, 1])
    losses = step(MODELS.build(config(neck=dict(neck=inner))), batch())
    assert 'loss_hier_cont' in losses


def test_auxiliary_head_keeps_its_losses():
    model = MODELS.build(config(auxiliary_head=head()))
    losses = step(model, batch())
    assert {'decode.loss_ce', 'aux.loss_ce', 'loss_hier_cont'} < losses.keys()


class TestInference:
    @pytest.mark.parametrize('mode', ['whole', 'slide'])
    @pytest.mark.parametrize('size', [(SIZE, SIZE), (40, 72)])
    def test_predict(self, mode, size):
        test_cfg = dict(mode=mode)
        if mode == 'slide':
            test_cfg.update(crop_size=(SIZE, SIZE), stride=(16, 16))
        model = MODELS.build(config(test_cfg=test_cfg)).eval()
        model.data_preprocessor.size = None
        data = batch(1, *size)
        found = model.test_step(copy.deepcopy(data))
        assert found[0].pred_sem_seg.shape == size
        assert found[0].seg_logits.data.shape == (CLASSES, *size)
        again = model.test_step(copy.deepcopy(data))
        assert torch.equal(found[0].seg_logits.data, again[0].seg_logits.data)

    def test_tensor(self):
        model = MODELS.build(config()).eval()
        logits = model(torch.randn(2, 3, SIZE, SIZE), mode='tensor')
        assert logits.shape == (2, CLASSES, SIZE // 8, SIZE // 8)

    def test_publishes_nothing(self):
        model = MODELS.build(config()).eval()
        with collect_losses() as scope:
            model.test_step(batch(1))
        assert scope.sources() == []

    def test_sampled_mode_differs_from_call_to_call(self):
        neck = dict(test_mode='sample', gate_init=1.0)
        model = MODELS.build(config(neck=neck)).eval()
        images = torch.randn(1, 3, SIZE, SIZE)
        with torch.no_grad():
            assert not torch.equal(model(images), model(images))


class TestStockModel:
    """Hi-Mapper in a model that does not know of its losses."""

    def train(self, model, steps=3):
        wrapper, data = optimizer(model), batch()
        for _ in range(steps):
            log = model.train_step(copy.deepcopy(data), wrapper)
        return log

    def test_warns_once(self):
        model = MODELS.build(config('mmseg'))
        with pytest.warns(UserWarning, match='HiMapper computes'):
            step(model, batch())  # before the backward pass, in which DDP would stop
        model = MODELS.build(config('mmseg'))
        with pytest.warns(UserWarning, match='HiMapper computes') as caught:
            log = self.train(model, 4)
        said = [w for w in caught if 'HiMapper' in str(w.message)]
        assert len(said) == 1
        message = str(said[0].message)
        assert "['loss_hier_cont', 'loss_hier_kl']" in message
        assert "type='hyper_mm.EncoderDecoder'" in message
        assert 'loss_hier_cont' not in log

    @pytest.mark.parametrize(
        'cfg',
        [
            config(),
            config('mmseg', neck=dict(contrastive_weight=0.0, kl_weight=0.0)),
        ],
        ids=['collected', 'no weights'],
    )
    def test_silent_where_nothing_is_lost(self, cfg):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            self.train(MODELS.build(cfg))
        assert not [w for w in caught if 'HiMapper' in str(w.message)]


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('fusion', ['token', 'nodes'])
def test_distributed_wrapper(process_group, fusion):
    """Every parameter takes part, or the second step would fail."""
    model = MODELS.build(config(neck=dict(fusion=fusion)))
    wrapped, data = MMDistributedDataParallel(model), batch()
    wrapper = optimizer(wrapped)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for _ in range(3):
            log = wrapped.train_step(copy.deepcopy(data), wrapper)
    assert {'loss_hier_cont', 'loss_hier_kl'} < log.keys()
    assert not [w for w in caught if 'HiMapper' in str(w.message)]


@pytest.mark.parametrize('training', [True, False])
def test_diverged_features_name_the_component(training):
    model = MODELS.build(config()).train(training)
    with torch.no_grad():
        model.backbone.cls_token.fill_(float('nan'))
    with pytest.raises(ValueError, match='HiMapper: .* input features at level -1 are not finite'):
        step(model, batch()) if training else model.test_step(batch(1))


def test_backbone_of_other_channels():
    cfg = config()
    cfg['neck']['in_channels'] = 24
    with pytest.raises(ValueError, match=r'set in_channels=\(16, 16\) in the neck'):
        step(MODELS.build(cfg), batch())
