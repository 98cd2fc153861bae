import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from hyper_mm.layers.open_vocab.region_scores import NameClassifier, NameFeatures, ScoreEnsemble
from hyper_mm.ops.stable import unit


def make(classes=7, regions=5, width=8, counts=None):
    torch.manual_seed(0)
    names = NameFeatures.of(torch.randn(sum(counts) if counts else classes, width), counts)
    classifier = NameClassifier(width, 0.1)
    seen = torch.arange(len(names)) % 2 == 0
    return classifier, torch.randn(regions, width), torch.randn(regions, width), names, seen


def straightforward(ensemble, classifier, regions, tower, names, seen):
    """Scores by the formulas."""
    z = (unit(regions) @ torch.cat([names.features, unit(classifier.background)[None]]).T) / 0.1
    w = unit(tower) @ names.features.T / ensemble.temperature
    z, w = z.softmax(1)[:, :-1], w.softmax(1)
    gamma = torch.tensor([ensemble.base if s else ensemble.novel for s in seen])
    return z ** (1 - gamma) * w**gamma


@pytest.mark.parametrize('chunk', [1, 3, 100])
def test_best_pairs(chunk):
    parts = make()
    ensemble = ScoreEnsemble(0.3, 0.7, 0.1, chunk)
    found = ensemble.best(*parts, keep=12)
    scores = straightforward(ensemble, *parts)
    torch.testing.assert_close(found.scores, scores.flatten().topk(12).values)
    torch.testing.assert_close(scores[found.regions, found.classes], found.scores)
    least = found.scores[4].item() * 0.999
    assert len(ensemble.best(*parts, keep=12, threshold=least).scores) == 5
    logits = parts[0](parts[1], parts[3])
    torch.testing.assert_close(ensemble.log_scores(logits, *parts[2:]).exp(), scores)


def test_many_scores_are_sorted_in_groups():
    parts = make(300, 40)
    ensemble = ScoreEnsemble(0.3, 0.7, 0.1)
    found = ensemble.best(*parts, keep=50)  # of 12,000 in groups of 64
    scores = straightforward(ensemble, *parts)
    torch.testing.assert_close(found.scores, scores.flatten().topk(50).values)
    torch.testing.assert_close(scores[found.regions, found.classes], found.scores)


def test_no_regions():
    classifier, regions, tower, names, seen = make()
    found = ScoreEnsemble().best(classifier, regions[:0], tower[:0], names, seen)
    assert [len(part) for part in found] == [0, 0, 0]


def test_synonyms_count_by_their_best():
    classifier, regions, tower, names, seen = make(counts=[2, 1, 3])
    cosines = unit(regions) @ names.features.T
    expected = torch.stack([part.amax(1) for part in cosines.split([2, 1, 3], 1)], 1)
    torch.testing.assert_close(names.cosines(unit(regions)), expected)
    assert classifier(regions, names).shape == (5, 4)
    whole, parts = (ScoreEnsemble(chunk=c) for c in (100, 2))
    for a, b in zip(*(e.best(classifier, regions, tower, names, seen, 9) for e in (whole, parts))):
        torch.testing.assert_close(a, b)


def test_chunks_cover_all_classes_and_split_none():
    names = NameFeatures.of(torch.randn(12, 4), [1, 2, 5, 1, 1, 2])
    chunks = list(names.chunks(3))
    assert [place.stop for place, _ in chunks][-1] == 6
    assert torch.equal(torch.cat([part.features for _, part in chunks]), names.features)
    assert all(len(part.features) <= 3 or len(part) == 1 for _, part in chunks)
    assert [i for place, _ in chunks for i in range(place.start, place.stop)] == list(range(6))


def test_ten_thousand_names_take_the_memory_of_a_chunk():
    classifier, regions, tower, names, seen = make(10_000, 50)
    ensemble, largest = ScoreEnsemble(chunk=500), 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in tree_flatten(out)[0]:
                if isinstance(tensor, torch.Tensor) and not tensor._is_view():
                    largest = max(largest, tensor.numel())
            return out

    with Largest():
        found = ensemble.best(classifier, regions, tower, names, seen, 100)
    assert largest <= 50 * 500
    scores = straightforward(ensemble, classifier, regions, tower, names, seen)
    torch.testing.assert_close(found.scores, scores.flatten().topk(100).values)


def test_probabilities_are_those_of_fc_clip():
    classifier, regions, tower, names, seen = make()
    ensemble = ScoreEnsemble(0.4, 0.8, 0.1)
    logits = classifier(regions, names)
    found = ensemble.probabilities(logits, tower, names, seen)
    z = logits[:, :-1].softmax(1)
    w = (unit(tower) @ names.features.T / 0.1).softmax(1)
    gamma = torch.tensor([0.4 if s else 0.8 for s in seen])
    mean = z ** (1 - gamma) * w**gamma
    nothing = logits.softmax(1)[:, -1:]
    expected = mean / mean.sum(1, keepdim=True) * (1 - nothing)
    torch.testing.assert_close(found, torch.cat([expected, nothing], 1))


def test_exponents_at_their_ends():
    parts = make()
    classifier, regions, tower, names, seen = parts
    mine = classifier(regions, names).softmax(1)[:, :-1]
    theirs = (unit(tower) @ names.features.T / 0.01).softmax(1)
    found = ScoreEnsemble(0, 1).log_scores(classifier(regions, names), tower, names, seen).exp()
    torch.testing.assert_close(found, torch.where(seen, mine, theirs))


def test_gradients_reach_regions_names_and_background():
    classifier, regions, _, _, _ = make()
    texts = torch.randn(3, 8, requires_grad=True)
    regions.requires_grad_()
    classifier(regions, NameFeatures.of(texts)).logsumexp(1).sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in (regions, texts, classifier.background))


def test_autocast_keeps_the_logits():
    classifier, regions, _, names, _ = make()
    expected = classifier(regions, names)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(classifier(regions, names), expected)


def test_bad_values():
    classifier, regions, tower, names, seen = make()
    with pytest.raises(ValueError, match='counts'):
        NameFeatures.of(names.features, [3, 0, 4])
    for options in (dict(base=1.5), dict(novel=-0.1), dict(temperature=0), dict(chunk=0)):
        with pytest.raises(ValueError, match=next(iter(options))):
            ScoreEnsemble(**options)
    with pytest.raises(ValueError, match='temperature'):
        NameClassifier(8, 0.0)
    with pytest.raises(ValueError, match='width 8'):
        classifier(torch.randn(2, 9), names)
    with pytest.raises(ValueError, match='seen'):
        ScoreEnsemble().best(classifier, regions, tower, names, seen[:3])
    with pytest.raises(ValueError, match='tower'):
        ScoreEnsemble().best(classifier, regions, tower[:3], names, seen)
