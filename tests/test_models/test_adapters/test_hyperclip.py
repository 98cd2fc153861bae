"""HyperCLIP's adapter by config."""

import pytest
import torch

open_clip = pytest.importorskip('open_clip')
pytest.importorskip('mmengine')

from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.clip import make_clip  # noqa: E402


def test_is_the_layer_by_config():
    from hyper_mm.layers import HyperCLIPAdapter

    adapter = MODELS.build(dict(type='hyper_mm.HyperCLIPAdapter', block_size=8, curvature=0.3))
    assert isinstance(adapter, HyperCLIPAdapter)
    assert adapter.curvature['vision'] == 0.3 and adapter.options['block_size'] == 8


def test_attaches_and_starts_as_the_plain_model():
    image = torch.rand(2, 3, 32, 32)
    expected = make_clip().encode_image(image)
    clip = make_clip()
    MODELS.build(dict(type='hyper_mm.HyperCLIPAdapter', block_size=8)).attach(clip)
    torch.testing.assert_close(clip.encode_image(image), expected)
    assert any(p.requires_grad for p in clip.parameters())
