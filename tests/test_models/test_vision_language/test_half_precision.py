"""CLIP in half precision below the heads and losses in float32."""

import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from mmengine.structures import BaseDataElement  # noqa: E402

from hyper_mm.layers.hyperclip.adapted_weight import AdaptedWeight  # noqa: E402
from hyper_mm.models.vision_language.radial_clip import RadialCLIP  # noqa: E402
from tests.helpers.open_vocab import HYPERCLIP, NAMES, batch, build, config, run  # noqa: E402

pytestmark = pytest.mark.mmseg
PRECISIONS = {'fp16': torch.float16, 'bf16': torch.bfloat16}
ADAPTERS = {
    'none': dict(),
    'HyperCLIP': dict(adapter=HYPERCLIP),
    'input': dict(adapter=dict(HYPERCLIP, target='input')),
    'LoRA': dict(adapter=dict(type='hyper_mm.LoRAAdapter', rank=2)),
    'qv': dict(finetune='qv'),
}
OTHERS = ['animal', 'dog', 'small dog', 'A small dog.']
TEXTS = ['thing', 'cup', 'red cup', 'A red cup on a table.']


@pytest.fixture(params=PRECISIONS)
def precision(request):
    return request.param


def check_gradients(model):
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
            assert parameter.requires_grad, name


@pytest.mark.parametrize('options', ADAPTERS.values(), ids=ADAPTERS)
@pytest.mark.parametrize('autocast', [False, True], ids=['', 'autocast'])
def test_segmentor(precision, options, autocast):
    torch.manual_seed(0)
    model = build(**options, clip=dict(config().clip, precision=precision))
    weight = model.clip.visual.conv1.weight
    assert weight.dtype == PRECISIONS[precision]
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        losses = run(model, batch())
        labels = run(model.eval(), batch(), 'predict')
    assert losses['loss_ce'].dtype == torch.float32
    losses['loss_ce'].backward()
    check_gradients(model)
    trained = [n for n, p in model.clip.named_parameters() if p.requires_grad]
    assert all(model.clip.get_parameter(n).dtype == torch.float32 for n in trained if 'maps' in n)
    if trained:
        moved = [n for n in trained if model.clip.get_parameter(n).grad is not None]
        assert any('visual' in n for n in moved)
        assert any('visual' not in n for n in moved)
    found = labels[0].pred_sem_seg.data
    assert 0 <= found.min() <= found.max() < len(NAMES)


def test_adapted_weights_are_rounded_once(precision):
    """The map is computed in float32, from the half weight to the half result."""
    torch.manual_seed(0)
    model = build(adapter=HYPERCLIP, clip=dict(config().clip, precision=precision))
    places = [m for m in model.modules() if isinstance(m, AdaptedWeight)]
    assert len(places) == 5
    for place in places:
        with torch.no_grad():
            for parameter in place[0].parameters():
                assert parameter.dtype == torch.float32
                parameter += 0.1 * torch.randn_like(parameter)
            exact = place[0](place.original.float())
            assert place().dtype == PRECISIONS[precision]
            assert torch.equal(place(), exact.to(PRECISIONS[precision]))


def chains(count=3):
    return [
        BaseDataElement(metainfo=dict(texts=[f'{t} {i}' for t in TEXTS], negatives=OTHERS))
        for i in range(count)
    ]


@pytest.mark.parametrize('adapter', [None, dict(HYPERCLIP, towers=('text',))], ids=['all', 'maps'])
def test_radial_clip(precision, adapter):
    torch.manual_seed(0)
    clip = dict(config().clip, precision=precision)
    loss = dict(type='hyper_mm.RadialEmbeddingLoss', lambda_reg=0.0)
    model = RadialCLIP(clip, loss, adapter=adapter)
    samples = chains()
    losses = model([None] * 3, samples, mode='loss')
    assert losses['loss_mean'].dtype == torch.float32
    model.parse_losses(losses)[0].backward()
    check_gradients(model)
    assert any(p.grad is not None and p.grad.ne(0).any() for p in model.parameters())
    with torch.no_grad():
        images = [torch.rand(3, 32, 32) * 255 for _ in samples]
        found = model(images, samples, mode='predict')
        assert found[0].image_feature.dtype == found[0].text_features.dtype == torch.float32
        model.set_vocabulary(['cat', 'dog'])
        (scores,) = model(images[:1], [BaseDataElement()], mode='predict')
    assert scores.pred_score.sum().item() == pytest.approx(1, abs=1e-5)
