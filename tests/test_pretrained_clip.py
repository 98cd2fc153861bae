"""CLIP's public weights load completely into the open-vocabulary models: SAN, CAT-Seg, prompts."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip('mmseg')
open_clip = pytest.importorskip('open_clip')

import mmseg  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS, init_default_scope  # noqa: E402

import hyper_mm.registry  # noqa: E402, F401
from hyper_mm.models.utils.open_clip import build_open_clip  # noqa: E402
from tests.test_pretrained import CONFIGS, assert_equal, images, randomized  # noqa: E402

CONVERTER = Path(mmseg.__file__).parent / '.mim/tools/model_converters/clip2mmseg.py'
pytestmark = [pytest.mark.mmseg, pytest.mark.slow]


@pytest.fixture(scope='module')
def network() -> nn.Module:
    """A random ViT-B/16 with the activation of OpenAI's."""
    return randomized(open_clip.create_model('ViT-B-16-quickgelu'))


def test_of_san(network, tmp_path):
    converter = runpy.run_path(str(CONVERTER))
    state = converter['convert_key_name'](network.state_dict(), visual_split=9)
    torch.save(converter['convert_tensor'](state), tmp_path / 'clip.pth')
    cfg = Config.fromfile(CONFIGS / 'hyperclip/hyperclip_san-vit-b16_coco-stuff164k.py')
    init_default_scope('mmseg')
    cfg.model.pretrained = str(tmp_path / 'clip.pth')
    cfg.model.image_encoder.img_size = (224, 224)  # positions as they are
    model = MODELS.build(cfg.model)
    names = {n for n, _ in model.named_parameters()}
    ours = {n for n in names if 'parametrizations' in n and not n.endswith('.original')}
    ours |= {n for n in names if 'maps' in n}
    parts = ('image_encoder.', 'text_encoder.', 'decode_head.rec_with_attnbias.')
    of_clip = {n: model.get_parameter(n) for n in names - ours if n.startswith(parts)}
    with torch.no_grad():
        for parameter in of_clip.values():
            parameter.fill_(float('nan'))
    model.init_weights()
    model.eval()
    assert not {n for n, p in of_clip.items() if p.isnan().any()}
    kept = []
    network.visual.transformer.resblocks[8].register_forward_hook(
        lambda module, inputs, output: kept.append(output)
    )
    text = open_clip.get_tokenizer('ViT-B-16-quickgelu')(['a photo of a cat', 'some grass'])
    with torch.no_grad():
        network.encode_image(images())
        expected = kept.pop()
        level, cls_token = model.image_encoder(images())[-1]
        assert_equal(cls_token.flatten(1), expected[:, 0])
        assert_equal(level.flatten(2).mT, expected[:, 1:])
        assert_equal(model.text_encoder.encode_text(text), network.encode_text(text))


@pytest.mark.parametrize(
    'name',
    ['hyperclip/cat-seg_vit-b16_coco-stuff164k.py', 'lathadapter/maple_vit-b16_caltech101.py'],
)
def test_of_open_clip(network, tmp_path, name):
    torch.save(network.state_dict(), tmp_path / 'clip.pt')
    cfg = Config.fromfile(CONFIGS / name).model.clip
    assert cfg.pretrained == 'openai'
    cfg.update(pretrained=str(tmp_path / 'clip.pt'), image_size=None)  # positions as they are
    clip = build_open_clip(**cfg).eval()
    for key, value in network.state_dict().items():
        assert torch.equal(clip.state_dict()[key], value), key
    assert clip.state_dict().keys() == network.state_dict().keys()
    text = open_clip.get_tokenizer('ViT-B-16-quickgelu')(['a photo of a cat', 'some grass'])
    with torch.no_grad():
        assert_equal(clip.encode_image(images()), network.encode_image(images()))
        assert_equal(clip.encode_text(text), network.encode_text(text))
