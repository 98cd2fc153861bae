"""Contrastive pretraining of a small CLIP on PartScenes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('open_clip')

from mmengine.config import Config  # noqa: E402

from hyper_mm.datasets.part_scenes import THING_CLASSES, render_object  # noqa: E402
from hyper_mm.models.utils.open_clip import build_open_clip  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

TINY = """
model = dict(clip=dict(model=dict(
    embed_dim=8, vision_cfg=dict(image_size=32, layers=1, width=8, head_width=8, patch_size=16),
    text_cfg=dict(context_length=77, vocab_size=49408, width=8, heads=1, layers=1))))
"""


@pytest.fixture(scope='module')
def tool():
    return load_tool('experiments/pretrain_tiny_clip.py')


def test_captions(tool):
    for index, name in enumerate(THING_CLASSES):
        sample = render_object(name, 5, index, (64, 64))
        texts = tool.captions(sample)
        assert texts[0] == f'a photo of a {name}.' and all(name in text for text in texts)
        assert set(texts) >= set(sample.captions[2:]) and len(texts) == 6


def test_loss_is_that_of_clip_where_captions_differ(tool):
    image, text = (F.normalize(torch.randn(5, 4), dim=-1) for _ in range(2))
    rows = torch.arange(5)
    logits = 7 * image @ text.mT
    expected = 0.5 * (F.cross_entropy(logits, rows) + F.cross_entropy(logits.mT, rows))
    assert tool.contrastive_loss(image, text, rows, 7.0) == pytest.approx(expected.item())


def test_pictures_of_one_caption_share_its_weight(tool):
    image = F.normalize(torch.randn(3, 4), dim=-1)
    text = F.normalize(torch.randn(2, 4), dim=-1)
    rows = torch.tensor([0, 1, 0])
    logits = image @ text.mT
    back = logits.mT.log_softmax(-1)
    back = -(0.5 * (back[0, 0] + back[0, 2]) + back[1, 1]) / 2
    expected = 0.5 * (F.cross_entropy(logits, rows) + back)
    assert tool.contrastive_loss(image, text, rows, 1.0) == pytest.approx(expected.item())


def test_bad_arguments(tool):
    for wrong in (['--steps', '0'], ['--lr', '0'], ['--seed', '-1']):
        with pytest.raises(SystemExit):
            tool.parse_args(['out.pt', *wrong])


def test_training_resumes_and_is_loaded(tool, tmp_path, monkeypatch):
    config = tmp_path / 'tiny.py'
    config.write_text(TINY)
    monkeypatch.setattr(tool, 'SAVE_EVERY', 2)
    options = f'--config {config} --images 1 --test-images 1 --steps 3 --batch-size 4'.split()
    whole = tool.parse_args([str(tmp_path / 'whole.pt'), *options])
    accuracy = tool.train(whole)
    assert 0 <= accuracy <= 100 and not (tmp_path / 'whole.partial.pt').exists()

    loss = tool.contrastive_loss
    calls = []

    def stopped(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss(*args)

    parts = tool.parse_args([str(tmp_path / 'parts.pt'), *options])
    with monkeypatch.context() as patch:
        patch.setattr(tool, 'contrastive_loss', stopped)
        with pytest.raises(KeyboardInterrupt):
            tool.train(parts)
    tool.train(parts)
    model = dict(Config.fromfile(config).model.clip.model)
    found = [build_open_clip(model, pretrained=str(a.out)).state_dict() for a in (whole, parts)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert found[0]['logit_scale'].exp().item() == pytest.approx(100)

    other = tool.parse_args([str(tmp_path / 'parts.pt'), *options, '--lr', '0.1'])
    torch.save(dict(asked={}), tmp_path / 'parts.partial.pt')
    with pytest.raises(ValueError, match='other arguments'):
        tool.train(other)
