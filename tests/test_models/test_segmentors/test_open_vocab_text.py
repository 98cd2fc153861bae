"""Vocabularies of the open-vocabulary segmentor, and when their features are computed anew."""

import copy

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.models.utils import vocabulary_features  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.open_vocab import (  # noqa: E402
    HYPERCLIP,
    NAMES,
    SIZE,
    batch,
    build,
    config,
    run,
    trained,
)

pytestmark = pytest.mark.mmseg


class TestVocabulary:
    def test_swap(self):
        model, image = build().eval(), torch.randn(1, 3, SIZE, SIZE)
        with torch.no_grad():
            before = model(image)
            model.vocabulary = ['horse', 'cat']
            after = model(image)
            assert after.shape[1] == 2
            assert model.dataset_meta['classes'] == ['horse', 'cat']
            assert len(model.dataset_meta['palette']) == 2
            model.vocabulary = NAMES
            torch.testing.assert_close(model(image), before)

    def test_text_file(self, tmp_path):
        path = tmp_path / 'my_classes.txt'
        path.write_text('zebra\nred chair\n')
        model = build(vocabulary=str(path))
        assert list(model.vocabulary.names) == ['zebra', 'red chair']
        assert model(torch.randn(1, 3, SIZE, SIZE)).shape[1] == 2

    def test_training_classes(self):
        model = build(train_vocabulary=NAMES[:2])
        image = torch.randn(1, 3, SIZE, SIZE)
        assert model.train()(image).shape[1] == 2
        assert model.eval()(image).shape[1] == 5

    def test_palette_of_a_data_set_with_the_same_classes(self):
        model = build()
        palette = [[i, i, i] for i in range(5)]
        model.dataset_meta = dict(classes=NAMES[:4], palette=palette[:4])
        assert model.dataset_meta['classes'] == NAMES
        assert model.dataset_meta['palette'] != palette
        model.dataset_meta = dict(classes=tuple(NAMES), palette=palette)
        assert model.dataset_meta == dict(classes=NAMES, palette=palette)
        model.dataset_meta = None

    def test_synonyms_are_averaged(self):
        model = build(vocabulary=dict(names=['cat, kitten', 'sky'], synonyms='mean')).eval()
        with torch.no_grad():
            mean = model.encode_vocabulary()
            model.vocabulary = ['cat', 'kitten', 'sky']
            own = F.normalize(model.encode_vocabulary(), dim=-1)
        expected = torch.stack([own[:2].mean(0), own[2]])
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-6)

    def test_several_templates(self):
        templates = ['a {}.', 'a photo of a {}.']
        model = build(vocabulary=dict(names=NAMES, templates=templates)).eval()
        each = [build_like(model, [t]).encode_vocabulary()[:, 0] for t in templates]
        expected = F.normalize(sum(F.normalize(x, dim=-1) for x in each), dim=-1)
        found = model.encode_vocabulary()[:, 0]  # the head takes one
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        apart = config(vocabulary=dict(names=NAMES, templates=templates))
        apart.decode_head.aggregator.num_prompts = 2
        model = MODELS.build(apart)
        assert model.encode_vocabulary().shape == (5, 2, 16)
        assert model(torch.randn(1, 3, SIZE, SIZE)).shape[1] == 5
        with pytest.raises(ValueError, match='takes 2 templates.*the vocabulary has 1'):
            model.vocabulary = NAMES

    def test_as_documented(self):
        model = build(
            vocabulary=dict(names=['sofa, couch', 'wall'], synonyms='mean', templates='imagenet')
        )
        losses = run(model, batch(1, classes=2))
        assert losses['loss_ce'].isfinite()
        assert run(model.eval(), batch(1, classes=2), 'predict')[0].pred_sem_seg.data.max() < 2


def build_like(model, templates):
    other = build(vocabulary=dict(names=NAMES, templates=templates)).eval()
    other.load_state_dict(model.state_dict())
    return other


class TestCache:
    @pytest.fixture
    def calls(self, monkeypatch):
        found, encode = [], vocabulary_features.encode_text

        def counted(*args, **kwargs):
            found.append(1)
            return encode(*args, **kwargs)

        monkeypatch.setattr(vocabulary_features, 'encode_text', counted)
        return found

    def test_is_used(self, calls):
        model = build(adapter=HYPERCLIP).eval()
        for _ in range(3):
            run(model, batch(1), 'predict')
        assert len(calls) == 1

    def test_frozen_text_is_encoded_once_in_training(self, calls):
        model = build()
        for _ in range(3):
            run(model, batch(1))
        assert len(calls) == 1

    def test_trained_text_is_encoded_each_time(self, calls):
        model = build(adapter=HYPERCLIP)
        for _ in range(3):
            run(model, batch(1))
        assert len(calls) == 3

    @torch.no_grad()
    def test_changes_are_noticed(self):
        model = build(adapter=HYPERCLIP).eval()
        parameter = next(p for n, p in trained(model).items() if 'clip.transformer' in n)
        before = model.encode_vocabulary()
        parameter.mul_(1.5)
        after = model.encode_vocabulary()
        assert not torch.allclose(before, after)
        parameter.data.div_(1.5)  # unseen by autograd: the loops set the mode before they test
        torch.testing.assert_close(model.eval().encode_vocabulary(), before)

    @torch.no_grad()
    def test_checkpoint_is_noticed(self):
        model, other = build().eval(), build().eval()
        before = model.encode_vocabulary()
        model.load_state_dict(other.state_dict())
        torch.testing.assert_close(model.encode_vocabulary(), other.encode_vocabulary())
        assert not torch.allclose(before, model.encode_vocabulary())

    @torch.no_grad()
    def test_dtype_is_noticed(self):
        model = build().eval()
        model.encode_vocabulary()
        assert model.double().encode_vocabulary().dtype == torch.float64

    def test_copy_has_its_own(self):
        model = build().eval()
        other = copy.deepcopy(model)
        assert other._encoder.clip is other.clip is not model.clip

    def test_is_not_saved(self):
        model = build().eval()
        names = set(model.state_dict())
        run(model, batch(1), 'predict')
        assert set(model.state_dict()) == names


def test_vocabulary_is_plain():
    assert isinstance(build().vocabulary, Vocabulary)
