import pytest
import torch
from torch import nn

open_clip = pytest.importorskip('open_clip')

from hyper_mm.layers.open_vocab.dense_clip import DenseCLIP  # noqa: E402
from hyper_mm.layers.open_vocab.image_towers import image_tower  # noqa: E402
from tests.helpers.clip import make_clip  # noqa: E402
from tests.helpers.clip_families import make_family  # noqa: E402


def resnet():
    torch.manual_seed(0)
    tower = open_clip.modified_resnet.ModifiedResNet([1, 1, 1, 1], 16, 2, 64, 8)
    for stage in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        nn.init.ones_(stage[0].bn3.weight)  # zero at construction: all of its block
    return tower.eval()


def timm_model(name='convnext_atto', **options):
    torch.manual_seed(0)
    options = {**dict(pool='', proj='linear'), **options}
    return open_clip.timm_model.TimmModel(name, 16, **options).eval()


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def whole(height, width):
    return torch.tensor([[0.0, 0.0, width, height]])


@pytest.mark.parametrize('make', [resnet, timm_model])
def test_stages(make):
    visual = make()
    tower = image_tower(visual)
    maps = tower(torch.randn(2, 3, 64, 96))
    for level, channels, stride in zip(maps.levels, tower.channels, tower.strides):
        assert level.shape == (2, channels, 64 // stride, 96 // stride)
    assert len(maps.levels) == 4 and maps.last.shape[2:] == (2, 3)


@pytest.mark.parametrize('make, side', [(resnet, 64), (timm_model, 64), (timm_model, 96)])
def test_a_box_around_the_image_has_the_feature_of_the_image(make, side):
    visual = make()
    tower, images = image_tower(visual), torch.randn(2, 3, side, side)
    maps = tower(images)
    found = torch.cat([tower.boxes(last, whole(side, side)) for last in maps.last])
    expected = visual(images)
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max(), rtol=1e-4)


def test_a_mask_of_the_image_has_the_feature_of_the_image():
    visual = timm_model()
    tower, images = image_tower(visual), torch.randn(2, 3, 64, 64)
    found = tower.masks(tower(images).last, torch.ones(2, 3, 64, 64))
    expected = visual(images)
    for query in found.unbind(1):
        torch.testing.assert_close(query, expected, atol=1e-5 * expected.abs().max(), rtol=1e-4)


def test_resnet_pools_a_mask_of_one_value_as_its_attention_does():
    visual = resnet()
    visual.attnpool.positional_embedding.zero_()
    tower = image_tower(visual)
    last = torch.randn(1, 256, 1, 1).expand(1, 256, 2, 2)
    expected = visual.attnpool(last)
    torch.testing.assert_close(tower.masks(last, torch.ones(1, 1, 64, 64))[0], expected)


def test_transformer():
    visual = make_clip().visual
    tower, images = image_tower(visual), torch.randn(2, 3, 32, 48)
    maps = tower(images)
    dense = DenseCLIP(visual, (1,))(images)
    torch.testing.assert_close(maps.last, dense.features)
    torch.testing.assert_close(maps.levels[0], dense.intermediate[0])
    boxes = torch.tensor([[8.0, 8, 24, 16], [0, 0, 48, 32]])
    found = tower.boxes(maps.last[0], boxes)
    torch.testing.assert_close(found[1], dense.features[0].mean((1, 2)))
    assert image_tower(visual, (0, 1)).channels == (32, 32)


@pytest.mark.parametrize('name', ['ViT-B-16-SigLIP', 'MobileCLIP-B', 'ViTamin-S'])
def test_transformers_of_timm(name, tmp_path):
    """As dense features at their own size; at others, position embeddings are interpolated."""
    visual = make_family(name, tmp_path).visual.eval()
    height, width = visual.image_size
    images = torch.randn(2, 3, height, width)
    last = len(visual.trunk.blocks) - 1
    image, dense = visual(images), DenseCLIP(visual, (0,))(images)
    tower = image_tower(visual, (0,))
    maps = tower(images)
    torch.testing.assert_close(maps.last, dense.features)
    torch.testing.assert_close(maps.levels[0], dense.intermediate[0])
    torch.testing.assert_close(visual(images), image)  # the tower itself is as it was
    assert tower.channels == (maps.levels[0].shape[1],)
    assert tower.strides == (height // maps.last.shape[2],)
    with pytest.raises(ValueError, match='taps must lie in'):
        image_tower(visual, (last,))
    other = tower(torch.randn(1, 3, height + tower.stride, 2 * width))
    size = (maps.last.shape[2] + 1, 2 * maps.last.shape[3])
    assert other.last.shape[2:] == other.levels[0].shape[2:] == size
    assert other.last.isfinite().all()


@pytest.mark.parametrize(
    'make',
    [
        resnet,
        timm_model,
        lambda: make_clip().visual,
        lambda: timm_model('vit_tiny_patch16_224', pool=''),
    ],
)
@pytest.mark.parametrize('size', [(5, 7), (33, 70)])
def test_images_of_any_size_even_below_the_stride(make, size):
    tower = image_tower(make())
    images = torch.randn(1, 3, *size)
    maps = tower(images)
    padded = nn.functional.pad(images, (0, -size[1] % tower.stride, 0, -size[0] % tower.stride))
    torch.testing.assert_close(maps.last, tower(padded).last)
    found = tower.masks(maps.last, torch.ones(1, 1, *size))
    assert found.isfinite().all()
    boxes = tower.boxes(maps.last[0], torch.tensor([[0.0, 0, *size[::-1]], [1, 1, 1, 1]]))
    assert boxes.isfinite().all() and boxes.shape == (2, 16)


def test_padding_is_in_no_mask():
    tower = image_tower(timm_model())
    maps = tower(torch.randn(1, 3, 32, 40))
    everywhere = tower.masks(maps.last, torch.ones(1, 1, 32, 40))
    columns = tower.boxes(maps.last[0], torch.tensor([[0.0, 0, 64, 32]]))
    assert not torch.allclose(everywhere[0], columns)  # the padded column counts in the box alone


@pytest.mark.parametrize('name', ['EVA02-B-16', 'PE-Core-B-16'])
def test_rotary_positions_of_one_size_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match='rotary positions for images of one size, as Eva'):
        image_tower(make_family(name, tmp_path).visual)


def test_other_towers():
    with pytest.raises(TypeError, match='Linear'):
        image_tower(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='taps'):
        image_tower(resnet(), (1,))
    with pytest.raises(ValueError, match='attention'):
        image_tower(timm_model('resnet18', pool='abs_attn', proj=''))
    with pytest.raises(ValueError, match='strides'):
        image_tower(timm_model('mixer_s32_224', pool='', proj='linear'))
    fixed = timm_model('vit_tiny_patch16_224')
    del fixed.trunk.dynamic_img_size
    with pytest.raises(ValueError, match='dynamic_img_size.*VisionTransformer'):
        image_tower(fixed)
    with pytest.raises(ValueError, match='taps must lie in'):
        image_tower(timm_model('vit_tiny_patch16_224'), (12,))
