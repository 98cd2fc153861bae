"""LoRA by config."""

import pytest
import torch

open_clip = pytest.importorskip('open_clip')
pytest.importorskip('mmengine')

from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.clip import make_clip  # noqa: E402


def attach(**options):
    clip = make_clip()
    MODELS.build(dict(type='hyper_mm.LoRAAdapter', **options)).attach(clip)
    return clip


def trained(clip):
    return {name for name, p in clip.named_parameters() if p.requires_grad}


def test_options_reach_the_updates():
    clip = attach(rank=2, alpha=6.0, projections='qv')
    names = trained(clip)
    downs = [p for n, p in clip.named_parameters() if n.endswith('.down')]
    assert downs and {(*p.shape[:2],) for p in downs} == {(2, 2)}  # projections, rank
    assert names == {n for n in names if n.endswith(('.down', '.up'))}


@pytest.mark.parametrize('tower', ['vision', 'text'])
def test_one_tower_alone(tower):
    names = trained(attach(towers=(tower,)))
    assert names and all(n.startswith('visual.') == (tower == 'vision') for n in names)


def test_starts_as_the_plain_model():
    image = torch.rand(2, 3, 32, 32)
    expected = make_clip().encode_image(image)
    torch.testing.assert_close(attach().encode_image(image), expected)


def test_bad_rank():
    with pytest.raises(ValueError, match='rank'):
        attach(rank=0)


@pytest.mark.parametrize('kind', ['LoRAAdapter', 'TrainedPartsAdapter', 'FullTuning'])
def test_a_checkpoint_by_config(kind, tmp_path):
    clip, other = make_clip(), make_clip()
    adapter = MODELS.build(dict(type=f'hyper_mm.{kind}')).attach(clip)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    file = tmp_path / 'adapter.pth'
    adapter.save(file)
    MODELS.build(dict(type=f'hyper_mm.{kind}', checkpoint=str(file))).attach(other)
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(other.encode_image(image), clip.encode_image(image))
    with pytest.raises(ValueError, match='checkpoint must be a file or None'):
        MODELS.build(dict(type=f'hyper_mm.{kind}', checkpoint=str(tmp_path / 'none.pth')))
