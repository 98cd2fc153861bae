import copy

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('open_clip')

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.open_vocab_det import CHANNELS, backbone  # noqa: E402

pytestmark = pytest.mark.usefixtures('mmdet_scope')

ADAPTER = dict(type='hyper_mm.HyperCLIPAdapter', block_size=8)
TEXT_ADAPTER = dict(ADAPTER, towers=('text',))


def make(tower='resnet', **options):
    torch.manual_seed(0)
    return MODELS.build(backbone(tower, **options))


@pytest.mark.parametrize('tower', CHANNELS)
def test_towers(tower):
    model = make(tower)
    maps = model(torch.randn(2, 3, 32, 64))
    assert [x.shape[1] for x in maps.levels] == CHANNELS[tower] == list(model.channels)
    assert model.embed_dims == 16
    assert not any(x.requires_grad for x in maps.levels)
    assert not any(p.requires_grad for p in model.parameters())


def test_frozen_image_tower_is_as_in_evaluation_also_while_it_trains():
    model = make('convnext')
    model.clip.visual.trunk.stages[0].blocks[0].drop_path.train()
    images = torch.randn(1, 3, 64, 64)
    expected = model.eval()(images)
    found = model.train()(images)
    assert model.training and not model.clip.visual.training
    torch.testing.assert_close(found.last, expected.last)
    resnet = make('resnet', finetune='full').train()
    before = copy.deepcopy(dict(resnet.clip.visual.named_buffers()))
    maps = resnet(images)
    assert maps.last.requires_grad and resnet.clip.visual.training
    after = dict(resnet.clip.visual.named_buffers())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_adapter_of_both_towers_or_of_the_text():
    model = make('vit', adapter=ADAPTER)
    maps = model(torch.randn(1, 3, 32, 32))
    names = model.encode(Vocabulary(['cat', 'dog']))
    loss = maps.last.square().sum() + maps.levels[0].sum() + names.features[0].sum()
    loss.backward()
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained and all('in_proj_weight' in name for name in trained)
    model = make('convnext', adapter=TEXT_ADAPTER)
    assert not model(torch.randn(1, 3, 64, 64)).last.requires_grad
    assert model.encode(Vocabulary(['cat'])).features.requires_grad
    with pytest.raises(ValueError, match='TimmModel'):
        make('convnext', adapter=ADAPTER)


def test_features_of_names_are_kept_until_the_tower_changes():
    model, vocabulary = make(), Vocabulary(['cat, kitten', 'sky'], synonyms='max')
    first = model.encode(vocabulary)
    assert model.encode(vocabulary).features is first.features
    assert first.counts == (2, 1) and first.features.shape == (3, 16)
    torch.testing.assert_close(first.features.norm(dim=1), torch.ones(3))
    with torch.no_grad():
        model.clip.text_projection.normal_()
    assert not torch.allclose(model.encode(vocabulary).features, first.features)
    alone = model.encode(Vocabulary(['kitten', 'sky']))
    torch.testing.assert_close(alone.features, model.encode(vocabulary).features[1:])


def test_loaded_weights_survive_the_initialization_of_a_parent():
    from mmengine.model import BaseModule

    class Parent(BaseModule):
        def __init__(self):
            super().__init__(dict(type='Constant', val=3.0, layer=['Linear', 'Conv2d']))
            self.backbone = make()

    parent = Parent()
    before = copy.deepcopy(parent.backbone.state_dict())
    parent.init_weights()
    after = parent.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_bad_values():
    with pytest.raises(ValueError, match='finetune'):
        make(finetune='some')
    with pytest.raises(ValueError, match='frozen'):
        make('vit', adapter=ADAPTER, finetune='full')
    with pytest.raises(TypeError, match='attach'):
        make('vit', adapter=dict(type='mmdet.L1Loss'))
    with pytest.raises(ValueError, match='taps'):
        make('vit', taps=(7,))
    with pytest.raises(ValueError, match='tokens'):
        make().check(Vocabulary(['very ' * 90 + 'long']))
