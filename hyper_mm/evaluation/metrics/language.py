"""Metrics of language models, from the log-probabilities that they predict."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from hyper_mm.registry import METRICS


@METRICS.register_module()
class Perplexity(BaseMetric):
    r"""Perplexity :math:`\exp(-\frac{1}{T} \sum_t \log p(x_t \mid x_{<t}))` over all labels.

    ``nll`` is its logarithm, in nats a token, ``tokens`` the number of labels.

    Args:
        collect_device: Device of the collection across processes.
        prefix: Prefix of the names, ``'lm'`` by default.
    """

    default_prefix = 'lm'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Adds up a batch.

        The data samples are dicts with ``log_probs`` and ``valid``, both ``(N,)``; see
        :meth:`hyper_mm.HelmForCausalLM.predict`.

        Raises:
            ValueError: If a log-probability is not finite.
        """
        for sample in data_samples:
            total = sample['log_probs'][sample['valid']].double().sum().item()
            if not math.isfinite(total):
                raise ValueError(f'log_probs must be finite, got a sum of {total}')
            self.results.append((total, int(sample['valid'].sum())))

    def compute_metrics(self, results: list[tuple[float, int]]) -> dict[str, float]:
        """The perplexity of everything.

        Args:
            results: Kept by :meth:`process`, of all processes.

        Raises:
            ValueError: If there is no label.
        """
        tokens = sum(count for _, count in results)
        if not tokens:
            raise ValueError('Perplexity: no data sample has a label')
        nll = -math.fsum(total for total, _ in results) / tokens
        perplexity = torch.tensor(nll, dtype=torch.float64).exp().item()
        return dict(perplexity=perplexity, nll=nll, tokens=tokens)


@METRICS.register_module()
class MultipleChoiceAccuracy(BaseMetric):
    """Share of the questions whose right option is the most probable one.

    ``accuracy`` compares the sums of log-probabilities of the options' tokens, ``accuracy_norm``
    these sums over the options' numbers of letters, as usual for options of different lengths. Of
    equal options the first counts.

    Args:
        collect_device: Device of the collection across processes.
        prefix: Prefix of the names, ``'choice'`` by default.
    """

    default_prefix = 'choice'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Scores the options of a batch.

        The data samples are dicts, one an option: ``log_probs`` and ``valid`` ``(N - 1,)`` of
        question and option together, ``context``, the number of tokens of the question, and
        integers ``question``, ``option``, ``num_options``, ``answer`` (the right option) and
        ``letters``; see :class:`hyper_mm.MultipleChoiceDataset`.

        Raises:
            ValueError: If an option has no token that is predicted, or a log-probability is not
                finite.
        """
        names = ('question', 'option', 'num_options', 'answer', 'letters')
        for sample in data_samples:
            start = int(sample['context']) - 1  # where the first token of the option is predicted
            kept = sample['valid'][start:]
            score = sample['log_probs'][start:][kept].double().sum().item()
            if not kept.any() or not math.isfinite(score):
                raise ValueError(
                    f'log_probs of question {int(sample["question"])}, option '
                    f'{int(sample["option"])} must be finite, of at least one token, got a sum of '
                    f'{score} over {int(kept.sum())}'
                )
            self.results.append(dict(score=score, **{name: int(sample[name]) for name in names}))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The shares.

        Args:
            results: Kept by :meth:`process`, of all processes.

        Raises:
            ValueError: If a question lacks an option.
        """
        questions: dict[int, dict[int, dict]] = {}
        for result in results:
            questions.setdefault(result['question'], {})[result['option']] = result
        right = right_norm = 0
        for number, options in questions.items():
            first = next(iter(options.values()))
            if sorted(options) != list(range(first['num_options'])):
                raise ValueError(
                    f'question {number} must have options 0 to {first["num_options"] - 1}, '
                    f'got {sorted(options)}'
                )
            ranked = [options[i] for i in sorted(options)]
            scores = [option['score'] for option in ranked]
            norms = [option['score'] / option['letters'] for option in ranked]
            right += scores.index(max(scores)) == first['answer']
            right_norm += norms.index(max(norms)) == first['answer']
        if not questions:
            raise ValueError('MultipleChoiceAccuracy: there is no question')
        count = len(questions)
        return dict(
            accuracy=100 * right / count, accuracy_norm=100 * right_norm / count, questions=count
        )
