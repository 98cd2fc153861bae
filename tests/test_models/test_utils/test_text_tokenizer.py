"""Each model's own tokenizer: which one is chosen, nothing cut short, and what is not there."""

import copy
import json
import os
import pickle
import sys
from types import SimpleNamespace

import pytest
import torch

open_clip = pytest.importorskip('open_clip')

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.models.utils import text_tokenizer  # noqa: E402
from hyper_mm.models.utils.open_clip import build_open_clip, encode_text  # noqa: E402
from hyper_mm.models.utils.text_tokenizer import TextTokenizer  # noqa: E402
from hyper_mm.models.utils.vocabulary_features import VocabularyEncoder  # noqa: E402

WORDS = ['<pad>', '</s>', '[CLS]', '[SEP]', 'a', 'photo', 'of', 'cat', 'dog', 'blue', 'tree', '.']
SIZE = len(WORDS)
NAMES = ['cat', 'dog', 'a blue tree']


class Encoded(dict):
    input_ids = property(lambda self: self['input_ids'])


class WordTokenizer:
    """Stands in for a tokenizer of Hugging Face, word by word; ends with `</s>`."""

    bos_token_id = cls_token_id = WORDS.index('[CLS]')
    eos_token_id, pad_token_id, sep_token_id = 1, 0, WORDS.index('[SEP]')

    @classmethod
    def from_pretrained(cls, name, **_):
        if not os.path.isfile(os.path.join(name, 'tokenizer.json')):
            raise OSError(f'{name} is not a local folder, and there is no network')
        return cls()

    def __call__(
        self, texts, add_special_tokens=True, return_tensors=None, max_length=None, padding=False,
        truncation=False,
    ):  # fmt: skip
        rows = []
        for text in texts:
            row = [WORDS.index(word) for word in text.replace('.', ' .').split()]
            end = [self.eos_token_id] if add_special_tokens else []
            row = row[: max_length - len(end) if truncation else None] + end
            rows.append(row + [0] * (max_length - len(row) if padding else 0))
        return Encoded(input_ids=torch.tensor(rows) if return_tensors else rows)


@pytest.fixture(params=['transformers', 'stub'])
def folder(request, tmp_path, monkeypatch):
    """A tokenizer of Hugging Face in a folder, as `save_pretrained` leaves it; ends with `</s>`."""
    text_tokenizer._load.cache_clear()
    if request.param == 'stub':
        stub = SimpleNamespace(AutoTokenizer=WordTokenizer)
        monkeypatch.setitem(sys.modules, 'transformers', stub)
        (tmp_path / 'tokenizer.json').touch()
        return tmp_path
    pytest.importorskip('transformers')
    tokenizers = pytest.importorskip('tokenizers')
    ids = {word: row for row, word in enumerate(WORDS)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token='.'))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single='$A </s>', special_tokens=[('</s>', 1)]
    )
    model.save(str(tmp_path / 'tokenizer.json'))
    options = dict(
        tokenizer_class='PreTrainedTokenizerFast', pad_token='<pad>', eos_token='</s>',
        cls_token='[CLS]', bos_token='[CLS]', sep_token='[SEP]', unk_token='.',
    )  # fmt: skip
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(options))
    return tmp_path


def towers(**text):
    return dict(
        embed_dim=16,
        vision_cfg=dict(image_size=16, layers=1, width=16, head_width=8, patch_size=8),
        text_cfg=dict(width=16, heads=2, layers=2, **text),
    )


def worldwide(folder, vocab_size=SIZE):
    """A text tower like that of ViT-L-14-worldwide (MetaCLIP 2): its own ids, pooled at its end."""
    return towers(
        context_length=20,
        vocab_size=vocab_size,
        hf_tokenizer_name=str(folder),
        pool_type='eos',
        eos_id=1,
    )


def clipa(folder):
    """A text tower like that of ViT-L-14-CLIPA: no mask, pooled at the last position."""
    return towers(
        context_length=20,
        vocab_size=len(WORDS),
        hf_tokenizer_name=str(folder),
        tokenizer_kwargs=dict(strip_sep_token=True),
        no_causal_mask=True,
        pool_type='last',
    )


def openai(_):
    return towers(context_length=20, vocab_size=49408)


@pytest.mark.parametrize('family', [worldwide, clipa, openai])
@torch.no_grad()
def test_names_have_features_of_their_own(folder, family):
    torch.manual_seed(0)
    clip = build_open_clip(family(folder)).eval()
    found = VocabularyEncoder(clip).mean(Vocabulary(NAMES, templates=['a photo of a {}.']))
    assert (found @ found.mT - torch.eye(3)).fill_diagonal_(0).max() < 0.999
    tokens = clip.tokenizer([f'a photo of a {name}.' for name in NAMES], 20)
    expected = torch.nn.functional.normalize(clip.encode_text(tokens), dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_tokens_are_those_of_the_folder(folder):
    clip = build_open_clip(worldwide(folder))
    tokens = clip.tokenizer(['a blue tree', 'dog'], 6)
    assert tokens.tolist() == [[4, 9, 10, 1, 0, 0], [8, 1, 0, 0, 0, 0]]
    assert encode_text(clip, clip.tokenizer(['dog'], 20)).shape == (1, 16)


def test_nothing_is_cut_short(folder):
    tokenizer = TextTokenizer(worldwide(folder))
    assert tokenizer(['a blue tree'], 4)[0, -1] == 1
    with pytest.raises(ValueError, match="at most 4 tokens.*got 5: 'a blue tree dog'"):
        tokenizer(['dog', 'a blue tree dog'], 4)
    assert tokenizer(['a blue tree dog'], 4, truncate=True).shape == (1, 4)


def test_clips_mode_leaves_room_for_three_tokens(folder):
    config = worldwide(folder)
    config['text_cfg']['tokenizer_mode'] = 'clips'
    tokenizer = TextTokenizer(config)
    assert tokenizer(['a blue tree'], 6).shape == (1, 6)
    with pytest.raises(ValueError, match='at most 6 tokens.*got 7'):
        tokenizer(['a blue tree dog'], 6)


def test_ids_beyond_the_tower_are_refused(folder):
    clip = build_open_clip(worldwide(folder, vocab_size=8))
    with pytest.raises(ValueError, match='has the id 10, the text tower 8 ids'):
        clip.tokenizer(['a blue tree'], 20)


@pytest.mark.parametrize(
    'name',
    ['ViT-B-32', 'ViT-L-14-worldwide', 'ViT-H-14-worldwide-quickgelu', 'ViT-L-14-CLIPA']
    + ['ViT-B-16-SigLIP', 'ViT-B-16-SigLIP2', 'roberta-ViT-B-32', 'mt5-base-ViT-B-32'],
)
def test_names_are_asked_of_open_clip(monkeypatch, name):
    asked = []

    class Stub:
        tokenizer = staticmethod(lambda texts, **_: Encoded(input_ids=[[1]] * len(texts)))

        def __call__(self, texts, context_length):
            return torch.ones(len(texts), context_length, dtype=torch.long)

    monkeypatch.setattr(open_clip, 'get_tokenizer', lambda x: asked.append(x) or Stub())
    text_tokenizer._load.cache_clear()
    try:
        tokenizer = TextTokenizer(name)
        assert tokenizer(['cat'], 5).tolist() == [[1] * 5] and tokenizer.lengths(['cat']) == [1]
        tokenizer(['dog'], 5)
    finally:
        text_tokenizer._load.cache_clear()
    assert asked == [name]  # once for all


def test_files_that_are_not_there_are_named(folder, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    config = worldwide(folder / 'nothing')
    clip = build_open_clip(config)  # towers alone need no tokenizer
    with pytest.raises(FileNotFoundError, match='nothing.*files of its own.*hf_tokenizer_name'):
        clip.tokenizer(['cat'], 20)


def test_missing_package_is_named(tmp_path, monkeypatch):
    text_tokenizer._load.cache_clear()
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(ImportError, match='pip install transformers'):
        TextTokenizer(worldwide(tmp_path))(['cat'], 20)


def test_is_copied_and_pickled_with_its_model(folder):
    clip = build_open_clip(worldwide(folder))
    clip.tokenizer(['cat'], 20)
    for other in (copy.deepcopy(clip).tokenizer, pickle.loads(pickle.dumps(clip.tokenizer))):
        assert other.tokenizer is clip.tokenizer.tokenizer  # files are read once
    assert not any('tokenizer' in key for key in clip.state_dict())


@pytest.mark.parametrize('texts', ['a cat', ['a cat', 3]])
def test_bad_type(texts):
    with pytest.raises(TypeError, match='texts must be'):
        TextTokenizer()(texts)
