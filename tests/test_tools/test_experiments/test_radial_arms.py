"""Arms of the study of radial embeddings, on a small text tower and made-up captions."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('open_clip')
pytest.importorskip('mmcv')
pytest.importorskip('transformers')

from tests.helpers.clip_families import bert_config  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

CNN = dict(timm_model_name='test_efficientnet', timm_pool='avg', timm_proj='linear', image_size=32)
CHAIN = ['bear', 'a bear', 'a polar bear', 'a photo of a polar bear']
OTHER = ['sea', 'a sea', 'a cat sea', 'a photo of a cat sea']


@pytest.fixture(scope='module')
def tool():
    return load_tool('experiments/radial_arms.py')


@pytest.fixture
def clip(tmp_path):
    from hyper_mm.models.utils.open_clip import build_open_clip

    torch.manual_seed(0)
    return build_open_clip(bert_config(tmp_path, CNN)).eval().requires_grad_(False)


@pytest.fixture
def data():
    chains = [dict(texts=CHAIN, negatives=OTHER), dict(texts=OTHER, negatives=CHAIN)] * 8
    coco = [dict(texts=CHAIN[1:]), dict(texts=OTHER[1:])]
    images = torch.nn.functional.normalize(torch.randn(2, 16), dim=-1)
    pairs = [
        dict(texts=['cat', 'animal'], pos='N', score=6.0),
        dict(texts=['animal', 'cat'], pos='N', score=1.0),
        dict(texts=['sea', 'dog'], pos='V', score=0.0),
    ]
    return SimpleNamespace(
        chains=chains,
        held=chains[:2],
        test=[dict(texts=CHAIN), dict(texts=OTHER)],
        coco=dict(train=coco, val=coco),
        pairs=pairs,
        images=dict(test=images, val=images),
    )


@torch.no_grad()
def test_features_keep_the_order_of_the_texts(tool, clip):
    texts = [*CHAIN, '', *OTHER[::-1]]
    found = tool.encode(clip, texts, chunk=2)
    for text, row in zip(texts, found):
        tokens = clip.tokenizer([text], allow_empty=True)
        out = clip.text.transformer(input_ids=tokens).last_hidden_state.mean(1)
        expected = torch.nn.functional.normalize(out, dim=-1)[0]
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
    features = tool.Features(clip)
    torch.testing.assert_close(features(texts), found, atol=1e-5, rtol=1e-5)
    chains = features.chains([dict(texts=CHAIN), dict(texts=OTHER)])
    torch.testing.assert_close(chains[1, 3], features([OTHER[3]])[0])


def test_chains_by_tier(tool):
    rows = torch.arange(2 * 3 * 4.0).view(-1, 1)  # positive and negative, 3 chains, 4 tiers
    found = tool.by_tier(rows, 3)
    assert found.shape == (2, 4, 3, 1)
    assert found[0, :, 1, 0].tolist() == [4, 5, 6, 7]
    assert found[1, 2, :, 0].tolist() == [14, 18, 22]


def test_scores_of_known_places(tool, data):
    """A tower whose texts lie where their length says, and captions of an image together."""

    def place(text):
        angle = 0.02 * len(text)
        side = 1.0 if text in OTHER else -1.0
        return torch.tensor([1.0, angle, side * angle, 0.0])

    class Known(tool.Features):
        def __call__(self, texts):
            found = torch.stack([place(text) for text in texts])
            return torch.nn.functional.normalize(found, dim=-1)

    features = Known(None)
    root = features([''])[0]
    assert tool.order_of(features, data.test, root) == 1.0
    assert tool.same_image(features, data.coco['val']) == 100.0
    assert -1 <= tool.entailment(features, data.pairs, root, '{}') <= 1


@pytest.mark.parametrize('tuning', [False, True])
def test_every_arm_trains(tool, clip, data, tuning, monkeypatch):
    small = dict(tool.ARMS['adapter']['adapter'], block_size=8)
    monkeypatch.setitem(tool.ARMS['adapter'], 'adapter', small)
    args = SimpleNamespace(steps=3, batch=2)
    frozen = tool.Features(clip)
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    plain = tool.run(frozen, 'untuned', 0.0, 0, data, args, tuning)
    wanted = {'tau_d', 't2t'} if tuning else set(tool.COLUMNS)
    assert wanted == set(plain) - {'trained', 'seconds'} and plain['trained'] == 0
    trained = {}
    for arm in tool.ARMS:
        if arm != 'untuned':
            rate = 0.5 if arm == 'adapter' else 0.05
            found = tool.run(frozen, arm, rate, 0, data, args, tuning)
            assert found['trained'] > 0 and found['seconds'] > 0
            trained[arm] = found['trained']
            if not tuning:
                assert any(found[name] != plain[name] for name in tool.COLUMNS), arm
    assert trained['adapter'] < trained['radial'] == trained['cone']
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())


def test_roots(tool, clip, data):
    frozen = tool.Features(clip)
    mean = tool.general_mean(frozen, data)
    expected = frozen([CHAIN[0], OTHER[0]]).mean(0)
    torch.testing.assert_close(mean, torch.nn.functional.normalize(expected, dim=-1))
    fitted = tool.fitted_root(frozen, data)
    assert fitted.norm().item() == pytest.approx(1, abs=1e-5)
    assert tool.order_of(frozen, data.test, fitted) >= tool.order_of(frozen, data.test, mean)


def test_page(tool, clip, data):
    frozen = tool.Features(clip)
    base = tool.score(frozen, data, frozen([''])[0]) | dict(trained=0, seconds=0.0)
    more = {name: value + 1 for name, value in base.items()} | dict(trained=1234, seconds=0.5)
    own = {'untuned': [base], 'radial': [more, more], 'cone': [more]}
    args = SimpleNamespace(threads=1)
    text = tool.page(args, data, frozen, own, {'untuned': 0.0, 'radial': 1e-4, 'cone': 1e-5})
    rows = [line for line in text.splitlines() if line.startswith('| radial')]
    assert '1,234' in rows[0] and '0.0001' in rows[0] and '0.50' in rows[0]
    assert rows[1].count('1.000 ± 0.000') == 5  # against the untuned tower
    assert rows[1].count('1.0 ± 0.0') == 3
    for line in ('empty text', 'mean of all captions', 'orders best', '`tau_d` of the lengths'):
        assert line in text


def test_lengths(tool, data):
    assert tool.lengths(data) == {'words': pytest.approx(1), 'characters': pytest.approx(1)}
