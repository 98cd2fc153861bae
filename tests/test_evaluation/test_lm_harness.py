"""The bridge to lm-evaluation-harness, by requests as the harness makes them."""

from __future__ import annotations

import json
import math
import sys
import warnings
from types import ModuleType, SimpleNamespace

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.datasets.text_tokenizers import CompactTokenizer  # noqa: E402
from hyper_mm.evaluation.lm_harness import HarnessRequests, harness_model  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402

LENGTH = 12


class Words:
    """A tokenizer of single letters; 0 begins and 1 ends a document."""

    bos_id, eos_id, vocab_size = 0, 1, 28

    def encode(self, text):
        return [ord(letter) - ord('a') + 2 for letter in text if letter != ' ']

    def decode(self, ids):
        return ''.join(chr(i + ord('a') - 2) for i in ids if i > 1)


@pytest.fixture
def model():
    decoder = dict(
        type='hyper_mm.HelmDecoder',
        vocab_size=28,
        embed_dims=9,
        depth=2,
        attention=dict(type='LorentzAttention', num_heads=2),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=7),
        max_length=LENGTH,
    )
    model = MODELS.build(dict(type='hyper_mm.HelmForCausalLM', decoder=decoder)).double()
    torch.nn.init.normal_(model.head.weight)  # so that choices are clear
    return model


@pytest.fixture
def bridge(model):
    return HarnessRequests(model, Words(), batch_size=2, progress=False)


def requests(*all_args):
    return [SimpleNamespace(args=args) for args in all_args]


def by_hand(model, context, target):
    """Log-probability of each token of a target, one after the other."""
    found = []
    for i, token in enumerate(target):
        logits = model(torch.tensor([context + target[:i]]))[0, -1]
        found.append(logits.log_softmax(-1)[token].item())
    return found


def test_loglikelihood(model, bridge):
    pairs = [('abc', ' de'), ('', 'xyz'), ('a ', 'b'), ('ab', 'cdefg')]
    found = bridge.loglikelihood(requests(*pairs))
    encode = Words().encode
    for (total, greedy), (context, target) in zip(found, pairs):
        context, target = [0, *encode(context)], encode(target)
        assert total == pytest.approx(sum(by_hand(model, context, target)), abs=1e-5)
        best = model.generate(torch.tensor([context]), len(target))[0, len(context) :]
        assert greedy == (best.tolist() == target)
    best = Words().decode(model.generate(torch.tensor([[0, 2]]), 3)[0, 2:].tolist())
    if len(best) == 3:
        assert bridge.loglikelihood(requests(('a', best)))[0][1]


def test_long_contexts_are_cut_at_their_beginning(model, bridge):
    ((total, _),) = bridge.loglikelihood(requests(('abcdefghijklmnop', 'xy')))
    ids = Words().encode('abcdefghijklmnop')
    wanted = by_hand(model, ids[-(LENGTH - 2) :], Words().encode('xy'))
    assert total == pytest.approx(sum(wanted), abs=1e-5)
    with pytest.raises(ValueError, match='must have 1 to 11 tokens, got 12'):
        bridge.loglikelihood(requests(('a', 'abcdefghijkl')))
    with pytest.raises(ValueError, match='got 0'):
        bridge.loglikelihood(requests(('a', '')))


def test_rolling(model, bridge):
    text = 'thequickbrownfoxjumpsoverthelazydog'
    (total,) = bridge.loglikelihood_rolling(requests((text,)))
    ids = [0, *Words().encode(text)]
    step = LENGTH - 1
    wanted = sum(
        sum(by_hand(model, ids[i : i + 1], ids[i + 1 : i + 1 + step]))
        for i in range(0, len(ids) - 1, step)
    )
    assert total == pytest.approx(wanted, abs=1e-5)
    assert bridge.loglikelihood_rolling(requests(('',))) == [0]


def test_generation(model, bridge):
    (whole,) = bridge.generate_until(requests(('abc', dict(max_gen_toks=6))))
    ids = torch.tensor([[0, *Words().encode('abc')]])
    assert whole == Words().decode(model.generate(ids, 6, eos_id=1)[0, 4:].tolist())
    assert len(whole) >= 3
    (cut,) = bridge.generate_until(requests(('abc', dict(max_gen_toks=6, until=[whole[2], '%']))))
    assert cut == whole[: whole.index(whole[2])]
    (drawn,) = bridge.generate_until(
        requests(('abc', dict(max_gen_toks=6, until='%', temperature=0.7, do_sample=True)))
    )
    assert len(drawn) <= 6


def test_long_prompts_and_texts(model, bridge):
    """The default of ``max_gen_toks``, 256, is far more than the model's 12 tokens."""
    encode, decode = Words().encode, Words().decode
    text = 'abcdefg'
    (found,) = bridge.generate_until(requests((text, {})))
    prompt, new = [0, *encode(text)], []
    while len(new) < 256 and 1 not in new:  # by hand, in the same windows
        row = (prompt + new)[-(LENGTH // 2) :] if len(prompt + new) >= LENGTH else prompt + new
        count = min(LENGTH - len(row), 256 - len(new))
        new += model.generate(torch.tensor([row]), count, eos_id=1)[0, len(row) :].tolist()
    assert found == decode(new[: new.index(1)] if 1 in new else new)
    # the first token sees all of the prompt
    first = model(torch.tensor([prompt]))[0, -1].argmax().item()
    assert new[0] == first and found.startswith(decode([first]))
    with pytest.warns(UserWarning, match='1 of 1 texts exceed max_length = 12'):
        (found,) = bridge.generate_until(requests(('abcdefghijklmnop', dict(max_gen_toks=2))))
    row = encode('abcdefghijklmnop')[-(LENGTH - 2) :]
    assert found == decode(model.generate(torch.tensor([row]), 2)[0, LENGTH - 2 :].tolist())
    with pytest.raises(ValueError, match='max_gen_toks must be at least 1, got 0'):
        bridge.generate_until(requests(('a', dict(max_gen_toks=0))))


@pytest.fixture
def batches(model, monkeypatch):
    """Shapes of the ids that the decoder sees."""
    shapes, forward = [], model.decoder.forward

    def noting(ids, *args, **kwargs):
        shapes.append(tuple(ids.shape))
        return forward(ids, *args, **kwargs)

    monkeypatch.setattr(model.decoder, 'forward', noting)
    return shapes


def test_until_stops_the_generation(model, bridge, batches):
    (whole,) = bridge.generate_until(requests(('abc', dict(max_gen_toks=6))))
    assert len(whole) >= 4
    batches.clear()
    end = whole[1:3]  # of two tokens
    (cut,) = bridge.generate_until(requests(('abc', dict(max_gen_toks=6, until=[end]))))
    assert cut == whole[: whole.index(end)]
    assert len(batches) == whole.index(end) + 2


def test_prompts_share_batches(model, batches):
    texts = ['abc', 'z', 'hello', 'no', 'x']
    for until in ([], ['e', 'q', 't']):
        options = dict(max_gen_toks=5, until=until)
        single = HarnessRequests(model, Words(), batch_size=1, progress=False)
        wanted = [single.generate_until(requests((t, options)))[0] for t in texts]
        batches.clear()
        bridge = HarnessRequests(model, Words(), batch_size=4, progress=False)
        assert bridge.generate_until(requests(*((t, options) for t in texts))) == wanted
        assert {shape[0] for shape in batches} == {4, 1} and batches[0] == (4, 6)
    batches.clear()
    bridge.loglikelihood_rolling(requests(('ab',), ('c' * 30,), ('d',)))
    assert [shape[0] for shape in batches] == [4, 1]  # five windows


def test_parts_that_the_vocabulary_lacks(model):
    class Large(Words):
        """A vocabulary with capital letters, which the model lacks."""

        vocab_size = 54
        spec = dict(type='words')

        def encode(self, text):
            return [ord(i) - ord('A') + 28 if i.isupper() else ord(i) - ord('a') + 2 for i in text]

        def decode(self, ids):
            return ''.join(chr(i + ord('a') - 2) for i in ids if 1 < i < 28)

    tokenizer = CompactTokenizer(Large(), range(28))
    with pytest.raises(ValueError, match='reduced vocabulary'):
        tokenizer.encode('aB')
    bridge = HarnessRequests(model, tokenizer, progress=False)
    pairs = [('aBc', 'de'), ('ac', 'dE'), ('ac', 'de')]
    with pytest.warns(UserWarning, match='2 of 3 texts hold parts that the vocabulary lacks'):
        context, target, plain = bridge.loglikelihood(requests(*pairs))
    assert context == pytest.approx(plain)
    alone = bridge.loglikelihood(requests(('ac', 'd')))[0][0]
    assert target[0] == pytest.approx(alone - math.log(28), abs=1e-5) and target[1] is False
    with pytest.warns(UserWarning, match='3 of 3 texts hold'):  # windows of 11 tokens
        (total,) = bridge.loglikelihood_rolling(requests(('XYZ' * 10 + 'a',)))
    first = bridge.loglikelihood(requests(('', 'a')))[0][0]
    assert math.isfinite(total) and total < first - 30 * math.log(28) + 20
    with pytest.warns(UserWarning, match='1 of 2 texts hold'):
        found = bridge.generate_until(requests(*((t, dict(max_gen_toks=3)) for t in ('aBc', 'ac'))))
    assert found[0] == found[1]


def test_model_class_of_the_harness(model, monkeypatch):
    class LM:
        """What is used of ``lm_eval.api.model.LM``."""

        def __init__(self):
            self._rank, self._world_size = 0, 1

    names = ('lm_eval', 'lm_eval.api', 'lm_eval.api.model')
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules['lm_eval.api.model'].LM = LM
    found = harness_model(model, Words(), progress=False)
    assert isinstance(found, LM) and found._world_size == 1
    assert found.loglikelihood(requests(('a', 'b')))[0][0] < 0


def test_bad_input(model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lm_eval', None)
    with pytest.raises(ImportError, match='pip install lm_eval'):
        harness_model(model, Words())
    with pytest.raises(ValueError, match='batch_size must be at least 1'):
        HarnessRequests(model, Words(), batch_size=0)
    large = Words()
    large.vocab_size = 29
    with pytest.raises(ValueError, match="at most the model's 28, got 29"):
        HarnessRequests(model, large)


TASKS = {
    'choice': """
output_type: multiple_choice
doc_to_text: '{{context}}'
doc_to_choice: '{{options}}'
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    'writing': """
output_type: generate_until
doc_to_text: '{{context}}'
doc_to_target: '{{written}}'
generation_kwargs: {until: ['q'], max_gen_toks: 6, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
    'rolling': """
output_type: loglikelihood_rolling
doc_to_text: ''
doc_to_target: '{{context}}'
metric_list: [{metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}]
""",
}


@pytest.mark.slow
def test_tasks_of_the_harness_itself(model, tmp_path, monkeypatch):
    """From files of tasks and texts to figures; batch sizes change nothing."""
    lm_eval = pytest.importorskip('lm_eval')
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv('HF_DATASETS_OFFLINE', '1')
    model.eval()
    encode, decode = Words().encode, Words().decode
    contexts = ['abc', 'a', 'zzabcz', 'hello', 'abcdefghijklmnop']
    rows = []
    for number, context in enumerate(contexts):
        prompt = torch.tensor([[0, *encode(context)][-6:]])
        written = decode(model.generate(prompt, 6, eos_id=1)[0, prompt.shape[1] :].tolist())
        options = ['b', 'cd', 'xyz']
        scores = [sum(by_hand(model, [0, *encode(context)][-9:], encode(o))) for o in options]
        best = max(range(3), key=scores.__getitem__)
        answer = best if number % 2 else (best + 1) % 3  # 2 of 5 are right
        rows.append(
            dict(context=context, options=options, answer=answer, written=written.split('q')[0])
        )
    data = tmp_path / 'rows.jsonl'
    data.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    for name, text in TASKS.items():
        head = f'task: {name}\ndataset_path: json\ntest_split: test\n'
        head += f'dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {tmp_path}}}\n'
        (tmp_path / f'{name}.yaml').write_text(head + text)
    found = []
    for batch_size in (1, 3):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # contexts that are cut
            bridge = harness_model(model, Words(), batch_size=batch_size, progress=False)
            results = lm_eval.simple_evaluate(
                model=bridge,
                tasks=list(TASKS),
                task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
                bootstrap_iters=0,
                log_samples=False,
            )['results']
        found.append(
            (
                results['choice']['acc,none'],
                results['writing']['exact_match,none'],
                results['rolling']['byte_perplexity,none'],
            )
        )
    assert found[0] == pytest.approx(found[1])
    choice, writing, rolling = found[0]
    # the longest context is cut otherwise by the harness than above
    assert choice == pytest.approx(0.4, abs=0.21) and writing >= 0.8
    total = sum(
        bridge.loglikelihood_rolling([SimpleNamespace(args=(text,))])[0] for text in contexts
    )
    assert rolling == pytest.approx(math.exp(-total / sum(map(len, contexts))))
