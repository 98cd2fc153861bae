"""The tool that continues texts, on a tiny model with random weights."""

from __future__ import annotations

import io
import json
import sys

import pytest
import torch

pytest.importorskip('mmengine')
pytest.importorskip('tokenizers')

from hyper_mm.datasets.text_tokenizers import tokenizer_of  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

WORDS = ('<s>', '</s>', 'a', 'cat', 'dog', 'sees', 'the', 'red')
DECODER = dict(
    type='hyper_mm.HelmDecoder',
    vocab_size=8,
    embed_dims=9,
    depth=1,
    max_length=16,
    attention=dict(type='LorentzAttention', num_heads=2),
    ffn=dict(type='LorentzSwiGLU', hidden_dims=5),
)


@pytest.fixture(scope='module')
def tool():
    return load_tool('generate.py')


@pytest.fixture
def files(tmp_path):
    """Config, checkpoint, folder of token ids, and the model."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token='a'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(['<s>', '</s>'])
    tokenizer.save(str(tmp_path / 'tokenizer.json'))
    spec = dict(type='file', file='tokenizer.json', bos='<s>', eos='</s>')
    meta = dict(dtype='uint16', vocab_size=8, bos_id=0, eos_id=1, tokenizer=spec)
    meta.update(splits=dict(train=dict(tokens=3)), original_ids=None)
    (tmp_path / 'meta.json').write_text(json.dumps(meta))
    torch.manual_seed(0)
    cfg = dict(type='hyper_mm.HelmForCausalLM', decoder=DECODER)
    model = MODELS.build(cfg)
    torch.nn.init.normal_(model.head.weight)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'model.pth')
    data = dict(dataset=dict(data_root=str(tmp_path)))
    (tmp_path / 'config.py').write_text(f'model = {cfg!r}\ntrain_dataloader = {data!r}\n')
    return str(tmp_path / 'config.py'), str(tmp_path / 'model.pth'), tmp_path, model.eval()


def call(tool, monkeypatch, capsys, *arguments, stdin=None):
    monkeypatch.setattr(sys, 'argv', ['generate.py', *map(str, arguments)])
    if stdin is not None:
        monkeypatch.setattr(sys, 'stdin', io.StringIO(stdin))
    tool.main()
    return capsys.readouterr()


def expected(files, text, count, **options):
    tokenizer = tokenizer_of(files[2])
    ids = torch.tensor([[0, *tokenizer.encode(text)]])
    new = files[3].generate(ids, count, eos_id=1, **options)[0].tolist()
    return tokenizer.decode(new)


def test_texts_of_the_command_line(tool, files, monkeypatch, capsys):
    options = ('--max-new-tokens', 6, '--device', 'cpu')
    out = call(tool, monkeypatch, capsys, *files[:2], 'a cat', 'the dog', *options).out
    assert out.splitlines() == [expected(files, text, 6) for text in ('a cat', 'the dog')]
    sampled = ('--temperature', 1.5, '--top-k', 5, '--seed', 3, '--repetition-penalty', 1.3)
    out = call(tool, monkeypatch, capsys, *files[:2], 'a cat', *options, *sampled).out
    generator = torch.Generator().manual_seed(3)
    wanted = dict(temperature=1.5, top_k=5, generator=generator, repetition_penalty=1.3)
    assert out.strip() == expected(files, 'a cat', 6, **wanted)


def test_strings_end_a_text(tool, files, monkeypatch, capsys):
    whole = expected(files, 'a cat', 6, repetition_penalty=50.0)
    new = whole[len('a cat') :].split()
    word = next(w for w in new[1:] if w != new[0])
    options = ('--stop', word, '--device', 'cpu', '--repetition-penalty', 50)
    out = call(tool, monkeypatch, capsys, *files[:2], 'a cat', *options).out
    assert out.strip() == whole[: len('a cat') + whole[len('a cat') :].index(word)].strip()


def test_prompts_line_by_line(tool, files, monkeypatch, capsys):
    long = ' '.join(['dog'] * 20)
    found = call(
        tool, monkeypatch, capsys, *files[:2], '--max-new-tokens', 4, '--device', 'cpu',
        stdin=f'a cat\n{long}\nthe dog\n\nnot read\n',
    )  # fmt: skip
    assert found.out.splitlines() == [expected(files, text, 4) for text in ('a cat', 'the dog')]
    assert 'of fewer than max_length = 16 tokens, got 21' in found.err


def test_bad_input(tool, files, monkeypatch, capsys, tmp_path):
    config = tmp_path / 'other.py'
    for text, message in (
        ("model = dict(type='EncoderDecoder')\n", 'model.type must be hyper_mm.HelmForCausalLM'),
        (f"model = dict(type='hyper_mm.HelmForCausalLM', decoder={DECODER!r})\n", '--tokens must'),
    ):
        config.write_text(text)
        with pytest.raises(SystemExit, match=message):
            call(tool, monkeypatch, capsys, config, files[1], 'a')
