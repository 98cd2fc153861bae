"""Any registered model under our scope: the stock class with the losses of its components."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.hub import get_config  # noqa: E402
from mmengine.model import BaseModel  # noqa: E402
from mmengine.registry import MODELS as ROOT  # noqa: E402
from mmengine.registry import DefaultScope, Registry, init_default_scope  # noqa: E402

from hyper_mm.models import HiMapperPooling  # noqa: E402
from hyper_mm.models.stock import collecting, hosting, is_model  # noqa: E402
from hyper_mm.models.utils.aux_losses import AuxLossMixin  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402

SMALL = dict(num_leaves=4, num_levels=2, width=8, num_heads=2, hyp_dim=4)
HIERARCHY = {'loss_hier_cont', 'loss_hier_kl'}


@ROOT.register_module(force=True)
class ThirdPartyModel(BaseModel):
    """As a user's own package registers one, with mmengine's root registry."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.neck = HiMapperPooling(8, **SMALL)
        self.scale = scale

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return getattr(self, mode)(inputs)

    def loss(self, inputs):
        return dict(loss_own=self.scale * self.neck(inputs)[0].square().mean())


@pytest.fixture(autouse=True)
def scope():
    """Whatever default scope another test has left, and none here."""
    with DefaultScope.overwrite_default_scope('hyper_mm'):
        yield


def total_of(losses):
    values = [
        v if isinstance(v, torch.Tensor) else sum(v) for k, v in losses.items() if 'loss' in k
    ]
    return sum(value.sum() for value in values)


# third parties


def test_a_model_of_a_third_party():
    model = ROOT.build(dict(type='hyper_mm.ThirdPartyModel', scale=2.0))
    assert type(model).__name__ == 'ThirdPartyModel' and isinstance(model, ThirdPartyModel)
    losses = model(torch.randn(2, 8, 3, 3), mode='loss')
    assert losses.keys() > HIERARCHY and 'loss_own' in losses


def test_its_class_is_always_the_same_and_can_be_pickled():
    kind = MODELS.get('hyper_mm.ThirdPartyModel')
    assert kind is ROOT.get('hyper_mm.ThirdPartyModel') is collecting(ThirdPartyModel)
    assert issubclass(kind, AuxLossMixin) and collecting(kind) is kind
    assert pickle.loads(pickle.dumps(kind)) is kind
    model = kind()
    again = pickle.loads(pickle.dumps(model))
    assert type(again) is kind is type(copy.deepcopy(model))


def test_an_argument_that_it_does_not_know():
    with pytest.raises(TypeError, match="hyper_mm.ThirdPartyModel has no argument 'scael', did"):
        ROOT.build(dict(type='hyper_mm.ThirdPartyModel', scael=2.0))


def _rank(rank, model, folder):
    torch.save({type(model).__module__: model.loss(torch.ones(2, 8, 3, 3))}, f'{folder}/a.pth')


@pytest.mark.slow
def test_it_goes_to_a_process_that_is_spawned(tmp_path):
    model = MODELS.get('hyper_mm.ThirdPartyModel')()
    torch.multiprocessing.spawn(_rank, (model, str(tmp_path)), nprocs=1)
    (losses,) = torch.load(tmp_path / 'a.pth', weights_only=True).values()
    assert losses.keys() > HIERARCHY


@pytest.fixture
def two_scopes():
    """Two registries of third parties that both have a model of one name, and a head."""
    children = {}
    for name in ('party_a', 'party_b'):
        child = Registry('model', parent=ROOT, scope=name)
        kind = type('Shared', (ThirdPartyModel,), dict(__module__=name))
        child.register_module(name='Shared', module=kind)
        children[name] = kind
    child.register_module(name='OnlyHead', module=type('OnlyHead', (), dict(loss=print)))
    yield children
    for name in children:
        ROOT.children.pop(name)


def test_an_ambiguous_name_is_that_of_the_default_scope(two_scopes):
    with pytest.raises(KeyError, match=r"may be any of \['party_a.Shared', 'party_b.Shared'\]"):
        MODELS.get('hyper_mm.Shared')
    for name, kind in two_scopes.items():
        with DefaultScope.overwrite_default_scope(name):
            assert MODELS.get('hyper_mm.Shared') is collecting(kind)
        found = ROOT.build(dict(_scope_=name, type='hyper_mm.Shared'))
        assert isinstance(found, kind) and isinstance(found, AuxLossMixin)


def test_what_is_no_model_is_refused(two_scopes):
    with pytest.raises(KeyError, match="party_b.OnlyHead is no model .*type='party_b.OnlyHead'"):
        MODELS.get('hyper_mm.OnlyHead')
    assert not is_model(torch.nn.Linear) and not is_model(print)


def test_names_that_nobody_has():
    with pytest.raises(KeyError, match="not in the model registry, did you mean 'HiMapper'"):
        ROOT.build(dict(type='hyper_mm.HiMaper', in_channels=8))
    with pytest.raises(KeyError, match='hyper_mm.HiMapper is a model, it is not in the hook'):
        from hyper_mm.registry import HOOKS

        HOOKS.get('HiMapper')
    with pytest.raises(KeyError, match="did you mean 'ThirdPartyModel'"):
        MODELS.get('hyper_mm.ThirdPartModel')
    assert 'NoSuchThing' not in MODELS and 'HiMapper' in MODELS


# mmdet


def detector(path, **changes):
    """A detector of mmdet's own configs under our scope, small, with Hi-Mapper before its neck."""
    model = get_config(f'mmdet::{path}').model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None, norm_cfg=dict(type='BN'))
    for name, value in changes.items():
        *parents, last = name.split('__')
        node = model
        for parent in parents:
            node = node[parent]
        node[last] = value
    widths = [8 * 2**i for i in range(4)]
    widths = [widths[i] for i in model.backbone.out_indices]
    inner = model.get('neck')
    if inner is not None:
        inner.in_channels = widths
    model.neck = ConfigDict(type='hyper_mm.HiMapper', in_channels=widths, neck=inner, **SMALL)
    model.type = f'hyper_mm.{model.type}'
    return model


MASK2FORMER = 'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'
DINO = 'dino/dino-4scale_r50_8xb2-12e_coco.py'
FCOS = 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'


def small_fcos():
    return detector(FCOS, bbox_head__stacked_convs=1, bbox_head__num_classes=3)


def small_dino():
    return detector(
        DINO,
        num_queries=12,
        encoder__num_layers=1,
        decoder__num_layers=1,
        bbox_head__num_classes=3,
    )


def small_mask2former():
    model = get_config(f'mmdet::{MASK2FORMER}').model
    head = copy.deepcopy(model.panoptic_head)
    widths = [8, 16, 32, 64]
    head.update(in_channels=widths, num_things_classes=3, num_stuff_classes=0, num_queries=8)
    head.loss_cls.class_weight = [1.0] * 3 + [0.1]
    head.pixel_decoder.encoder.num_layers = 1
    head.transformer_decoder.num_layers = 1
    fusion = dict(model.panoptic_fusion_head, num_things_classes=3, num_stuff_classes=0)
    model = detector(
        MASK2FORMER,
        panoptic_head=head,
        panoptic_fusion_head=ConfigDict(fusion),
        train_cfg__num_points=32,
    )
    return model


def detection_batch(size=64):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    samples = []
    for label in range(2):
        meta = dict(
            img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size),
            batch_input_shape=(size, size), scale_factor=(1.0, 1.0),
        )  # fmt: skip
        masks = torch.zeros(1, size, size, dtype=torch.uint8)
        masks[:, 8:40, 8:48] = 1
        found = InstanceData(
            bboxes=torch.tensor([[8.0, 8, 48, 40]]),
            labels=torch.tensor([label]),
            masks=BitmapMasks(masks.numpy(), size, size),
        )
        samples.append(DetDataSample(metainfo=meta, gt_instances=found))
    return torch.randn(2, 3, size, size), samples


@pytest.mark.mmdet
@pytest.mark.parametrize('make', [small_fcos, small_dino, small_mask2former])
def test_detectors(make):
    mmdet = pytest.importorskip('mmdet.models')
    with DefaultScope.overwrite_default_scope('mmdet'):
        init_default_scope('mmdet')
        torch.manual_seed(0)
        config = make()
        model = ROOT.build(config).train()
        stock = getattr(mmdet, config.type.split('.')[1])
        assert isinstance(model, stock) and isinstance(model, AuxLossMixin)
        assert pickle.loads(pickle.dumps(type(model))) is type(model)
        inputs, samples = detection_batch()
        losses = model.loss(inputs, samples)
        assert losses.keys() > HIERARCHY
        total_of(losses).backward()
        grad = model.neck.mapper.decomposer.query_proj[1].weight.grad
        assert grad is not None and grad.abs().sum() > 0


@pytest.mark.mmdet
@pytest.mark.parametrize('name', ['SoftTeacher', 'RTMDet', 'DeformableDETR', 'PanopticFPN'])
def test_detectors_by_name(name):
    mmdet = pytest.importorskip('mmdet.models')
    with DefaultScope.overwrite_default_scope('mmdet'):
        kind = ROOT.get(f'hyper_mm.{name}')
    assert kind.__mro__[1:3] == (AuxLossMixin, getattr(mmdet, name))
    assert pickle.loads(pickle.dumps(kind)) is kind


# mmpretrain


@pytest.mark.mmpretrain
def test_a_retriever_of_mmpretrain():
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ROOT.build(
            dict(
                type='hyper_mm.ImageToImageRetriever',
                image_encoder=[
                    dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
                    dict(type='hyper_mm.HiMapperPooling', in_channels=64, **SMALL),
                ],
                head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
                prototype=torch.zeros(1, 64),
            )
        )
        samples = [DataSample().set_gt_label(1) for _ in range(2)]
        losses = model.loss(torch.randn(2, 3, 64, 64), samples)
        assert HIERARCHY | {'loss'} <= losses.keys()


@pytest.mark.mmpretrain
def test_a_classifier_of_timm_in_mmpretrain():
    pytest.importorskip('mmpretrain')
    pytest.importorskip('timm')
    from mmpretrain.models import TimmClassifier
    from mmpretrain.structures import DataSample

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ROOT.build(
            dict(
                type='hyper_mm.TimmClassifier',
                model_name='resnet10t',
                num_classes=3,
                loss=dict(type='CrossEntropyLoss'),
            )
        )
        assert isinstance(model, TimmClassifier) and isinstance(model, AuxLossMixin)
        samples = [DataSample().set_gt_label(1) for _ in range(2)]
        assert 'loss' in model.loss(torch.randn(2, 3, 32, 32), samples)


# mmseg


@pytest.mark.mmseg
def test_necks_of_a_library_are_refused():
    pytest.importorskip('mmseg')
    with pytest.raises(KeyError, match="mmseg.MLANeck is no model .*type='mmseg.MLANeck'"):
        ROOT.build(dict(_scope_='mmseg', type='hyper_mm.MLANeck'))


@pytest.mark.mmseg
def test_heads_of_a_library_can_be_pickled():
    pytest.importorskip('mmseg')
    with DefaultScope.overwrite_default_scope('mmseg'):
        kind = MODELS.get('hyper_mm.FCNHead')
    stock = next(base for base in kind.__mro__ if base.__module__.startswith('mmseg'))
    assert kind is hosting(kind) is hosting(stock)
    assert pickle.loads(pickle.dumps(kind)) is kind
