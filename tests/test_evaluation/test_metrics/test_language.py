"""Perplexity and multiple choice from log-probabilities."""

import math

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.registry import METRICS  # noqa: E402


def evaluate(name, samples, batch=2):
    metric = METRICS.build(dict(type=f'hyper_mm.{name}'))
    for start in range(0, len(samples), batch):
        metric.process({}, samples[start : start + batch])
    return metric.evaluate(len(samples))


def sample(log_probs, valid=None, **extras):
    log_probs = torch.tensor(log_probs)
    valid = torch.ones(len(log_probs), dtype=torch.bool) if valid is None else torch.tensor(valid)
    return dict(log_probs=log_probs, valid=valid, **extras)


def test_perplexity_weighs_tokens_not_sequences():
    samples = [
        sample([math.log(0.5)] * 3),
        sample([math.log(0.25), 0.0], [True, False]),
        sample([0.0], [False]),
    ]
    found = evaluate('Perplexity', samples)
    assert found['lm/tokens'] == 4
    assert found['lm/perplexity'] == pytest.approx((8 * 4) ** (1 / 4))
    assert found['lm/nll'] == pytest.approx(math.log(32) / 4)


def test_perplexity_of_nothing():
    with pytest.raises(ValueError, match='no data sample has a label'):
        evaluate('Perplexity', [sample([0.0], [False])])
    with pytest.raises(ValueError, match='must be finite'):
        evaluate('Perplexity', [sample([math.nan])])


def option(question, number, scores, context, answer, letters=1, valid=None, of=2):
    return sample(
        scores,
        valid,
        question=question,
        option=number,
        num_options=of,
        answer=answer,
        context=context,
        letters=letters,
    )


def test_multiple_choice():
    samples = [
        # the context's own score (-9) does not count, nor what is not valid
        option(0, 0, [-9.0, -1.0, -1.0], 2, answer=0, letters=4),
        option(0, 1, [0.0, -3.0, 5.0], 2, answer=0, letters=1, valid=[True, True, False]),
        # the longer option is worse in sum and better by letter
        option(1, 1, [-2.0, -2.0], 1, answer=1, letters=8),
        option(1, 0, [-3.0], 1, answer=1, letters=2),
    ]
    found = evaluate('MultipleChoiceAccuracy', samples)
    assert found == {'choice/accuracy': 50.0, 'choice/accuracy_norm': 100.0, 'choice/questions': 2}


def test_missing_option():
    with pytest.raises(ValueError, match=r'question 3 must have options 0 to 2, got \[0, 2\]'):
        evaluate('MultipleChoiceAccuracy', [option(3, i, [0.0], 1, answer=0, of=3) for i in (0, 2)])


@pytest.mark.parametrize(
    'scores, valid', [([-1.0, math.nan], None), ([-math.inf], None), ([-1.0, -1.0], [False, False])]
)
def test_options_without_a_score(scores, valid):
    """One of no tokens would be the most probable, one of NaN never chosen."""
    samples = [option(0, 0, [-1.0], 1, answer=0), option(0, 1, scores, 1, answer=0, valid=valid)]
    with pytest.raises(ValueError, match='question 0, option 1 must be finite, of at least one'):
        evaluate('MultipleChoiceAccuracy', samples)
