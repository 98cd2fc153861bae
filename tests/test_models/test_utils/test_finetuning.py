import pytest

pytest.importorskip('open_clip')

from hyper_mm.models.utils.finetuning import FINETUNE, prepare_clip  # noqa: E402
from tests.helpers.clip import make_clip  # noqa: E402


@pytest.mark.parametrize('finetune', FINETUNE)
def test_what_is_trained(finetune):
    clip = make_clip()
    assert prepare_clip(clip, None, finetune) is None
    trained = {n for n, p in clip.named_parameters() if p.requires_grad}
    assert 'logit_scale' not in trained
    everything = {n for n, _ in clip.named_parameters()} - {'logit_scale'}
    expected = dict(frozen=set(), full=everything)
    if finetune == 'qv':
        assert trained and all('in_proj_weight' in name for name in trained)
    else:
        assert trained == expected[finetune]


def test_adapter_is_returned():
    adapter = dict(type='hyper_mm.HyperCLIPAdapter', block_size=8)
    clip = make_clip()
    found = prepare_clip(clip, adapter, 'frozen')
    assert found.model is clip
    assert all(p.requires_grad for p in found.parameters())


def test_bad_values():
    with pytest.raises(ValueError, match='finetune'):
        prepare_clip(make_clip(), None, 'half')
    with pytest.raises(ValueError, match='adapter'):
        prepare_clip(make_clip(), dict(type='hyper_mm.LoRAAdapter'), 'full')
