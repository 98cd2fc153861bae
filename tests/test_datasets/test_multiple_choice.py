"""Questions with several answers."""

import json

import pytest
import torch
from hypothesis import given
from torch.utils.data import default_collate

pytest.importorskip('mmengine')
pytest.importorskip('open_clip')

from hyper_mm.datasets.text_tokenizers import build_tokenizer  # noqa: E402
from hyper_mm.registry import DATASETS, METRICS, MODELS  # noqa: E402

from ..helpers import tokens  # noqa: E402
from ..helpers.fuzz import FAST, damaged, reads  # noqa: E402

QUESTIONS = [
    dict(context='the colour of snow is', options=['white', 'dark green'], answer=0),
    dict(context='two and one is', options=['a house', 'four', 'three'], answer=2),
]


def build(folder, lines, **options):
    (folder / 'q.jsonl').write_text('\n'.join(lines))
    cfg = dict(type='hyper_mm.MultipleChoiceDataset', data_root=str(folder), ann_file='q.jsonl')
    return DATASETS.build({**cfg, **options})


def test_items_and_metric(tmp_path):
    data = build(tmp_path, [*map(json.dumps, QUESTIONS), ''])
    assert len(data) == 5
    assert [(item['question'], item['option']) for item in data] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (1, 2),
    ]
    assert [item['letters'] for item in data] == [5, 10, 7, 4, 5]
    decoder = dict(
        type='hyper_mm.EuclideanDecoder',
        vocab_size=49408,
        embed_dims=8,
        depth=1,
        attention=dict(type='RotaryAttention', num_heads=2),
        ffn=dict(type='SwiGLU', hidden_dims=5),
    )
    model = MODELS.build(dict(type='hyper_mm.HelmForCausalLM', decoder=decoder)).eval()
    torch.nn.init.normal_(model.head.weight)
    samples = model.val_step(default_collate(list(data)))
    metric = METRICS.build(dict(type='hyper_mm.MultipleChoiceAccuracy'))
    metric.process({}, [sample.to_dict() for sample in samples])
    for item, result in zip(data, metric.results):
        ids = item['input_ids'][item['doc_ids'] == 0]
        logits = model(ids[None])[0].log_softmax(-1)
        start = item['context']
        wanted = sum(logits[i - 1, ids[i]].item() for i in range(start, len(ids)))
        assert result['score'] == pytest.approx(wanted, abs=1e-4)
    assert metric.evaluate(5)['choice/questions'] == 2


def test_the_tokenizer_of_a_folder_of_tokens(tmp_path):
    """Of one that has renumbered the ids of its corpus."""
    lines, tokenizer = [*map(json.dumps, QUESTIONS)], build_tokenizer()
    plain = build(tmp_path, lines)
    kept = sorted({i for item in plain for i in item['input_ids'].tolist()})
    ends = {f'{e}_id': kept.index(getattr(tokenizer, f'{e}_id')) for e in ('bos', 'eos')}
    root = tokens.write(tmp_path, range(5), original_ids=kept, vocab_size=len(kept), **ends)
    data = build(tmp_path, lines, tokens=str(root))
    assert len(data) == len(plain) and data.eos_id == ends['eos_id'] != plain.eos_id
    for item, other in zip(data, plain):
        assert [kept[i] for i in item.pop('input_ids')] == other.pop('input_ids').tolist()
        assert torch.equal(item.pop('doc_ids'), other.pop('doc_ids')) and item == other
    with pytest.raises(ValueError, match=r"without \['cat'\]"):
        build(tmp_path, [json.dumps(dict(QUESTIONS[0], context='cat'))], tokens=str(root))


@pytest.mark.parametrize(
    'line, match',
    [
        ('{', 'q.jsonl, line 1 is no JSON'),
        ('[]', 'q.jsonl, line 1 must hold an object'),
        ('{"context": "a", "options": ["b", "c"]}', 'line 1: answer must be .*got None'),
        ('{"context": "a", "options": ["b", "c"], "answer": true}', 'line 1: .*got True of'),
        ('{"context": "a", "options": ["b", 3], "answer": 0}', "options or more, texts, .*'b', 3"),
        ('{"context": "a", "options": "bc", "answer": 0}', 'line 1: answer must be'),
        ('{"context": 3, "options": ["b", "c"], "answer": 0}', 'a text as context, got 3'),
        ('{"context": "a", "options": ["b", "c"], "answer": 2}', 'got 2 of .*b.*c'),
        ('{"context": "a", "options": ["b"], "answer": 0}', 'got 0 of .*b'),
        ('{"context": "a", "options": ["b", ""], "answer": 0}', 'option 1: must have tokens'),
        ('{"context": "a", "options": ["b", " "], "answer": 0}', 'option 1: .* and letters'),
        ('{"context": "a a a a", "options": ["b", "c"], "answer": 0}', 'max_length = 5'),
        ('', 'has no questions'),
    ],
)
def test_bad_input(tmp_path, line, match):
    with pytest.raises(ValueError, match=match):
        build(tmp_path, [line], max_length=5)


def test_lines_are_those_of_the_file(tmp_path):
    """A line separator of Unicode within a text ends no line; empty lines count."""
    question = dict(context='a', options=['b\u2028c', 'd'], answer=0)
    data = build(tmp_path, ['', json.dumps(question, ensure_ascii=False), ''])
    assert len(data) == 2 and data[1]['question'] == 0
    with pytest.raises(ValueError, match='q.jsonl, line 3 is no JSON'):
        build(tmp_path, ['', json.dumps(question), '}'])


@given(damaged(dict(context='one two', options=['three', 'four'], answer=1)))
@FAST
def test_damaged_lines(tmp_path, data):
    (tmp_path / 'q.jsonl').write_bytes(data)
    cfg = dict(type='hyper_mm.MultipleChoiceDataset', data_root=str(tmp_path), ann_file='q.jsonl')
    for item in reads(lambda: DATASETS.build(cfg), 'q.jsonl') or ():
        assert 0 <= item['answer'] < item['num_options']


def test_missing_file():
    with pytest.raises(FileNotFoundError, match='ann_file x.jsonl does not exist'):
        DATASETS.build(dict(type='hyper_mm.MultipleChoiceDataset', ann_file='x.jsonl'))
