"""Names to class features: one object for all models."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('open_clip')

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.models.utils import vocabulary_features  # noqa: E402
from hyper_mm.models.utils.open_clip import build_open_clip  # noqa: E402
from hyper_mm.models.utils.vocabulary_features import KEPT, VocabularyEncoder  # noqa: E402

TOWERS = dict(
    embed_dim=16,
    vision_cfg=dict(image_size=16, layers=1, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=77, vocab_size=49408, width=16, heads=2, layers=2),
)
TEMPLATES = ['a {}.', 'the {}']


@pytest.fixture
def clip():
    torch.manual_seed(0)
    return build_open_clip(TOWERS).eval()


@pytest.fixture
def encoded(monkeypatch):
    """Prompts that were encoded, call by call."""
    found, encode = [], vocabulary_features.encode_text

    def counted(clip, tokens, *args, **kwargs):
        found.append(len(tokens))
        return encode(clip, tokens, *args, **kwargs)

    monkeypatch.setattr(vocabulary_features, 'encode_text', counted)
    return found


def unit_of(clip, texts):
    return F.normalize(clip.encode_text(clip.tokenizer(texts)), dim=-1)


@torch.no_grad()
def test_templates_and_means(clip):
    encoder = VocabularyEncoder(clip)
    vocabulary = Vocabulary(['polar_bear', 'sky'], TEMPLATES)
    texts = [t.format(n) for n in ('polar bear', 'sky') for t in TEMPLATES]
    each = encoder(vocabulary)
    assert each.shape == (2, 2, 16)
    expected = unit_of(clip, texts).view(2, 2, 16)
    torch.testing.assert_close(F.normalize(each, dim=-1), expected, atol=1e-5, rtol=1e-5)
    mean = F.normalize(expected.mean(1), dim=-1)
    torch.testing.assert_close(encoder.mean(vocabulary), mean, atol=1e-5, rtol=1e-5)
    raw = F.normalize(each.mean(1), dim=-1)
    torch.testing.assert_close(encoder.mean(vocabulary, normalized=False), raw)


@torch.no_grad()
def test_equal_prompts_are_encoded_once(clip, encoded):
    vocabulary = Vocabulary.of_dataset(['cat', 'sea', 'cat'], ['a {}.'])
    found = VocabularyEncoder(clip).mean(vocabulary)
    assert encoded == [2]
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_frozen_features_survive_what_does_not_change_them(clip, encoded):
    clip.requires_grad_(False)
    encoder = VocabularyEncoder(clip)
    for _ in range(3):  # as a hook does at the beginning of each epoch
        encoder.mean(Vocabulary.of_dataset(['cat', 'dog'], TEMPLATES))
        encoder.clear(frozen=False)
    assert encoded == [4]
    encoder.clear()
    encoder.mean(Vocabulary.of_dataset(['cat', 'dog'], TEMPLATES))
    assert encoded == [4, 4]


def test_trained_features_are_forgotten(clip, encoded):
    encoder, vocabulary = VocabularyEncoder(clip), Vocabulary(['cat'])
    with torch.no_grad():
        encoder(vocabulary)
        encoder(vocabulary)
        assert encoded == [1]
        encoder.clear(frozen=False)
        encoder(vocabulary)
        clip.ln_final.weight.mul_(2)
        encoder(vocabulary)
    assert encoded == [1] * 3
    encoder(vocabulary).sum().backward()
    assert encoded == [1] * 4 and clip.text_projection.grad.any()


@torch.no_grad()
def test_prompts_are_part_of_the_state(clip, encoded):
    encoder, vocabulary = VocabularyEncoder(clip), Vocabulary(['cat'])
    prompts = [torch.nn.Parameter(torch.randn(1, 16))]
    first = encoder(vocabulary, prompts)
    assert encoder(vocabulary, prompts) is first
    prompts[0].add_(1)
    assert not torch.equal(encoder(vocabulary, prompts), first)
    assert not torch.equal(encoder(vocabulary), first)
    assert len(encoded) == 3


@torch.no_grad()
def test_remembered_features_do_not_depend_on_autocast(clip):
    vocabulary = Vocabulary(['cat', 'dog'])
    expected = VocabularyEncoder(clip)(vocabulary)
    with torch.autocast('cpu', torch.bfloat16):
        found = VocabularyEncoder(clip)(vocabulary)
    assert torch.equal(found, expected)


@torch.no_grad()
def test_memory_is_bounded(clip):
    encoder = VocabularyEncoder(clip)
    for index in range(3 * KEPT):
        encoder(Vocabulary([f'class {index}']))
    assert len(encoder._tokens) == len(encoder._features) == KEPT


@torch.no_grad()
def test_threads_share_a_model(clip):
    encoder = VocabularyEncoder(clip)
    names = [[f'class {i}', f'thing {i}'] for i in range(2 * KEPT)]
    expected = [encoder.mean(Vocabulary(x)).clone() for x in names]
    encoder.clear()
    wrong = []

    def ask(offset):
        for i in range(len(names)):
            row = (i + offset) % len(names)
            with torch.no_grad():
                found = encoder.mean(Vocabulary(names[row]))
            if not torch.allclose(found, expected[row], atol=1e-5):
                wrong.append(row)

    threads = [threading.Thread(target=ask, args=(3 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_classes_with_the_same_prompts_are_named(clip, monkeypatch):
    warned = []
    logger = vocabulary_features.MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'warning', warned.append)
    encoder = VocabularyEncoder(clip)
    encoder.tokens(Vocabulary(['sedan, white', 'sedan, black', 'van']))
    assert len(warned) == 1
    assert "['sedan, white', 'sedan, black'] have the same prompts" in warned[0]
    encoder.tokens(Vocabulary(['polar_bear', 'polar bear', 'van']))
    assert "['polar_bear', 'polar bear']" in warned[1]
    encoder.tokens(Vocabulary.of_dataset(['sedan, white', 'sedan, black']))
    encoder.tokens(Vocabulary(['sedan, white', 'sedan, black'], synonyms='mean'))
    assert len(warned) == 2


def test_copy_has_its_own_tower(clip):
    holder = torch.nn.Module()
    holder.clip, holder.encoder = clip, VocabularyEncoder(clip)
    other = copy.deepcopy(holder)
    assert other.encoder.clip is other.clip is not clip


def test_bad_chunk(clip):
    with pytest.raises(ValueError, match='chunk must be at least 1, got 0'):
        VocabularyEncoder(clip, chunk=0)


@torch.no_grad()
def test_every_name_by_itself(clip):
    encoder = VocabularyEncoder(clip)
    entries = ['cat, kitten', 'sky']
    found = encoder.names(Vocabulary(entries, TEMPLATES, 'max'))
    assert found.counts == (2, 1)
    for row, name in zip(found.features, ('cat', 'kitten', 'sky')):
        mean = unit_of(clip, [t.format(name) for t in TEMPLATES]).mean(0)
        torch.testing.assert_close(row, F.normalize(mean, dim=0))
    first = encoder.names(Vocabulary(entries, TEMPLATES))
    torch.testing.assert_close(first.features, found.features[[0, 2]])
    assert first.counts == (1, 1)
    with pytest.raises(ValueError, match="synonyms='max'"):
        encoder(Vocabulary(entries, TEMPLATES, 'max'))
