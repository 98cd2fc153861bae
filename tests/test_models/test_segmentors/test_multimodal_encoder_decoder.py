from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg')

import mmseg.models  # noqa: E402, F401
from mmengine.config import Config, ConfigDict  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.runner.checkpoint import load_state_dict  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402
from torch import nn  # noqa: E402

from hyper_mm.models import HiMapperPooling  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.small_configs import shrink_san  # noqa: E402

pytestmark = pytest.mark.mmseg

CONFIG = (
    Path(__file__).resolve().parents[3]
    / 'configs/hyperclip/hyperclip_san-vit-b16_coco-stuff164k.py'
)
SIZE, WIDTH, LAYERS = 64, 32, 5
META = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE))


def config(stock=False):
    """SAN as in the project's config, small, with an adapter or as mmseg has it."""
    model = Config.fromfile(CONFIG).model
    model.pretrained = None
    shrink_san(model, WIDTH)
    model.text_encoder.update(vocabulary=['cat', 'dog', 'sky'], dataset_name=None)
    head = model.decode_head
    head.num_classes, head.loss_decode[0].class_weight = 3, [1.0] * 3 + [0.1]
    if stock:
        model.type = 'MultimodalEncoderDecoder'
        del model.adapter
    return ConfigDict(model)


def build(**options):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(config(**options))


@pytest.fixture
def pair():
    """mmseg's model, and ours with its weights."""
    stock, ours = build(stock=True), build()
    for parameter in stock.parameters():  # mmseg leaves some uninitialised without a checkpoint
        nn.init.normal_(parameter.data, std=0.1)
    load_state_dict(ours, stock.state_dict(), strict=False)
    return stock.eval(), ours.eval()


def predict(model):
    torch.manual_seed(1)
    with torch.no_grad():
        return model.encode_decode(torch.randn(2, 3, SIZE, SIZE), [META] * 2)


def disturb(adapter):
    with torch.no_grad():
        for weight in adapter.parameters():
            weight += 0.2 * torch.randn_like(weight)


def test_starts_as_the_stock_model_with_its_weights(pair):
    stock, ours = pair
    expected = predict(stock)
    assert expected.isfinite().all()
    torch.testing.assert_close(predict(ours), expected)


def test_every_layer_of_the_vision_tower_is_adapted_and_trains(pair):
    stock, ours = pair
    maps = dict(ours.adapter.named_maps())
    assert len(maps) == 3 * LAYERS
    sample = SegDataSample(metainfo=META)
    sample.gt_sem_seg = PixelData(data=torch.randint(3, (1, SIZE, SIZE)))
    losses = ours.train().loss(torch.randn(2, 3, SIZE, SIZE), [sample] * 2)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(part.weight.grad.abs().sum() > 0 for part in maps.values())
    own = {id(weight) for weight in ours.adapter.parameters()}
    trained = {n for n, p in ours.named_parameters() if p.requires_grad and id(p) not in own}
    assert trained == {n for n, p in stock.named_parameters() if p.requires_grad}


class Hierarchical(nn.Module):
    """An image encoder with a hierarchy of its last map, whose losses it publishes."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        options = dict(num_leaves=4, num_levels=2, width=8, num_heads=2, hyp_dim=4)
        self.hierarchy = HiMapperPooling(WIDTH, **options)

    def forward(self, x):
        outputs = self.encoder(x)
        last = outputs[-1]
        self.hierarchy(last if isinstance(last, torch.Tensor) else last[0])
        return outputs


def test_losses_of_components_are_collected(pair):
    _, ours = pair
    sample = SegDataSample(metainfo=META)
    sample.gt_sem_seg = PixelData(data=torch.randint(3, (1, SIZE, SIZE)))
    images = torch.randn(2, 3, SIZE, SIZE)
    plain = ours.train().loss(images, [sample] * 2)
    ours.image_encoder = Hierarchical(ours.image_encoder).train()
    losses = ours.loss(images, [sample] * 2)
    added = {name for name in losses if 'loss' in name} - plain.keys()
    assert added == {'loss_hier_cont', 'loss_hier_kl'}
    sum(losses[name] for name in added).backward()
    found = [p.grad for p in ours.image_encoder.hierarchy.mapper.tree.parameters()]
    assert found and all(grad.abs().sum() > 0 for grad in found)


def test_merges_and_comes_back(pair):
    stock, ours = pair
    disturb(ours.adapter)
    expected = predict(ours)
    assert (expected - predict(stock)).abs().max() > 1e-4
    ours.adapter.merge()
    torch.testing.assert_close(predict(ours), expected, rtol=1e-5, atol=1e-5)
    assert ours.state_dict().keys() == stock.state_dict().keys()
    ours.adapter.unmerge()
    assert torch.equal(predict(ours), expected)


def test_clip_is_loaded_as_in_the_stock_model(pair, tmp_path):
    stock, _ = pair
    file = str(tmp_path / 'clip.pth')
    torch.save(stock.state_dict(), file)
    cfg = config()
    cfg.pretrained = file
    model = MODELS.build(cfg)
    model.init_weights()
    tower = ('image_encoder', 'decode_head.rec_with_attnbias')
    layers = [
        (model.get_submodule(name), layer)
        for name, layer in stock.named_modules()
        if name.startswith(tower) and isinstance(layer, nn.MultiheadAttention)
    ]
    assert len(layers) == LAYERS
    for found, expected in layers:
        torch.testing.assert_close(found.in_proj_weight, expected.in_proj_weight)
