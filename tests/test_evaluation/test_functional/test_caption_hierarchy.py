import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.nn.functional import normalize

from hyper_mm.evaluation.functional.caption_hierarchy import (
    hierarchical_recall,
    radius_levels,
    radius_order,
    retrieval_ranks,
    score_walks,
    spearman,
    tau_b,
    walk,
)
from hyper_mm.layers.radial.radial import RadialGeometry, text_radii

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute

GOLDEN = golden_files('radial*.npz')


def by_definition(similarity, radii, levels):
    return torch.stack([similarity.masked_fill(radii > level, -2).argmax(1) for level in levels], 1)


def scores_by_definition(picks, captions, image):
    precision, recall = [], []
    for index, row in enumerate(picks.tolist()):
        met, items = set(row), captions[image == index].tolist()
        own = {text for item in items for text in item}
        precision.append(len(met & own) / max(1, len(met)))
        tiers = list(zip(*items))
        recall.append(sum(bool(met & set(tier)) for tier in tiers) / len(tiers))
    return torch.tensor(precision).double(), torch.tensor(recall).double()


@given(seed=st.integers(0, 999), images=st.integers(1, 9), texts=st.integers(1, 30))
def test_walk_is_the_definition(seed, images, texts):
    torch.manual_seed(seed)
    similarity, radii = torch.rand(images, texts), torch.rand(texts).mul(8).round()  # with ties
    levels = radius_levels(radii, 7)
    torch.testing.assert_close(
        walk(similarity, radii, levels), by_definition(similarity, radii, levels)
    )


def test_walk_takes_the_first_of_equal_texts():
    similarity, radii = torch.tensor([[0.2, 0.9, 0.9, 0.9]]), torch.tensor([0.1, 0.5, 0.5, 0.5])
    levels = radius_levels(radii, 3)
    assert walk(similarity, radii, levels).tolist() == [[0, 0, 1]]
    assert by_definition(similarity, radii, levels).tolist() == [[0, 0, 1]]


@given(seed=st.integers(0, 999), images=st.integers(1, 6), extra=st.integers(0, 5))
def test_scores_are_the_definition(seed, images, extra):
    torch.manual_seed(seed)
    image = torch.cat([torch.arange(images), torch.randint(images, (extra,))])
    captions, picks = torch.randint(9, (len(image), 4)), torch.randint(12, (images, 6))
    found = score_walks(picks, captions, image)
    for value, expected in zip(found, scores_by_definition(picks, captions, image)):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('file', GOLDEN)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_golden_walks_and_order(file, dtype):
    g = Golden(file, dtype)
    ids = g['hc_text_id'].flatten()
    distinct, numbers = ids.unique(return_inverse=True)
    first = torch.stack([(numbers == n).nonzero()[0, 0] for n in range(len(distinct))])
    texts = g['hc_text'].flatten(0, 1)[first]
    radii = text_radii(texts, g['hc_root'])
    levels = radius_levels(radii, int(g['hc_steps']))
    assert absolute(levels, g.exact('hc_levels')) < (4e-7 if dtype == torch.float32 else 1e-12)
    picks = walk(normalize(g['hc_img'], dim=-1) @ normalize(texts, dim=-1).T, radii, levels)
    for row, expected in zip(distinct[picks], g['hc_picks']):
        assert row.unique().tolist() == expected[expected >= 0].tolist()
    scores = score_walks(picks, numbers.view(-1, g['hc_text_id'].shape[1]), g['hc_img_index'])
    assert scores.precision.mean().item() == pytest.approx(g.exact('hc_precision').item(), abs=1e-6)
    assert scores.recall.mean().item() == pytest.approx(g.exact('hc_recall').item(), abs=1e-6)
    order = radius_order(text_radii(g['hc_text'], g['hc_root'])).mean().item()
    assert order == pytest.approx(g.exact('hc_tau_d').item(), abs=1e-9)


@pytest.mark.parametrize('file', GOLDEN)
def test_golden_length_baselines(file):
    g = Golden(file)
    assert absolute(tau_b(g['hc_words']).mean(), g.exact('hc_tau_len_b')) < 1e-12
    assert absolute(radius_order(g['hc_words']).mean(), g.exact('hc_tau_len_argsort')) < 1e-12


@pytest.mark.parametrize('file', GOLDEN)
def test_golden_entailment_angles_in_float32(file):
    g = Golden(file, torch.float32)
    space, root = RadialGeometry(), normalize(g['hl_root'], dim=-1)
    general, specific = (
        space.place(normalize(g[f'hl_{key}'], dim=-1), root) for key in ('general', 'specific')
    )
    assert absolute(space.exterior_angle(general, specific), g.exact('hl_ext')) < 1.2e-6


@pytest.mark.parametrize('file', GOLDEN)
def test_golden_entailment_scores(file):
    g = Golden(file)
    space, root = RadialGeometry(), normalize(g['hl_root'], dim=-1)
    general, specific = (
        space.place(normalize(g[f'hl_{key}'], dim=-1), root) for key in ('general', 'specific')
    )
    angle = space.exterior_angle(general, specific)
    assert absolute(angle, g.exact('hl_ext')) < 1e-12
    noun, gold = g['hl_is_noun'].bool(), g['hl_gold']
    for key, score in (('rho', -angle), ('rho_radius', g['hl_radius_diff'])):
        assert spearman(score, gold) == pytest.approx(g.exact(f'hl_{key}_all').item(), abs=1e-9)
        noun_rho = g.exact(f'hl_{key}_noun').item()
        assert spearman(score[noun], gold[noun]) == pytest.approx(noun_rho, abs=1e-9)


@given(seed=st.integers(0, 999))
def test_correlations_are_scipy_s(seed):
    torch.manual_seed(seed)
    values, tiers = torch.randint(6, (5, 4)), [1, 2, 3, 4]
    for row, found, order in zip(values.tolist(), tau_b(values), radius_order(values)):
        expected = stats.kendalltau(row, tiers)[0] if len(set(row)) > 1 else 0
        assert found.item() == pytest.approx(expected, abs=1e-9)
        ranks = torch.tensor(row).argsort(stable=True)
        assert order.item() == pytest.approx(stats.kendalltau(ranks, tiers)[0], abs=1e-9)
    x, y = torch.randn(20), torch.randint(4, (20,))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-9)


def test_perfect_and_reversed_order():
    radii = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])
    assert radius_order(radii).tolist() == [1, -1]


def test_hierarchical_recall_counts_the_worst_name():
    similarity = torch.tensor([[0.9, 0.8, 0.1, 0.0], [0.9, 0.1, 0.8, 0.2]])
    targets = torch.tensor([[0, 1], [0, 3]])
    assert hierarchical_recall(similarity, targets, (1, 2, 3)) == [0, 0.5, 1]
    assert hierarchical_recall(similarity, targets, (1, 2, 3), hit='mean') == [0.5, 0.75, 1]


@pytest.mark.parametrize('value', [0.5, float('nan')])
def test_features_that_are_all_the_same_do_not_score(value):
    similarity = torch.full((3, 6), value)
    assert hierarchical_recall(similarity, torch.tensor([[0, 1]] * 3), (1, 5)) == [0, 0]
    ranks = retrieval_ranks(similarity, torch.arange(6) // 2)
    assert ranks.texts.tolist() == [4] * 3 and ranks.images.tolist() == [2] * 6


@given(seed=st.integers(0, 999), images=st.integers(1, 9), extra=st.integers(0, 9))
def test_retrieval_ranks_are_the_definition(seed, images, extra):
    torch.manual_seed(seed)
    image = torch.cat([torch.arange(images), torch.randint(images, (extra,))])
    image = image[torch.randperm(len(image))]
    similarity = torch.randn(images, len(image))
    ranks = retrieval_ranks(similarity, image)
    for number, row in enumerate(similarity):
        own = image[row.argsort(descending=True)] == number
        assert ranks.texts[number] == own.int().argmax()
    for number, column in enumerate(similarity.T):
        assert ranks.images[number] == (column.argsort(descending=True) == image[number]).nonzero()


def test_retrieval_ranks_of_more_images_than_a_block_holds():
    ranks = retrieval_ranks(torch.eye(300), torch.arange(300))
    assert not ranks.texts.any() and not ranks.images.any()


def test_bad_inputs():
    similarity, radii = torch.rand(2, 3), torch.tensor([0.5, 0.7, 0.9])
    with pytest.raises(ValueError, match='steps'):
        radius_levels(radii, 1)
    with pytest.raises(ValueError, match='levels must not be below'):
        walk(similarity, radii, torch.tensor([0.4, 0.9]))
    with pytest.raises(ValueError, match='similarity must be'):
        walk(similarity, radii[:2], radii)
    with pytest.raises(ValueError, match='image must hold'):
        score_walks(torch.zeros(3, 2, dtype=torch.long), torch.zeros(2, 4).long(), torch.arange(2))
    with pytest.raises(ValueError, match='image must hold'):
        retrieval_ranks(torch.rand(3, 2), torch.arange(2))
    with pytest.raises(ValueError, match="hit must be one of.*'any'"):
        hierarchical_recall(similarity, torch.zeros(2, 1).long(), (1,), hit='any')
    with pytest.raises(ValueError, match='at least 2 tiers'):
        tau_b(torch.rand(3, 1))
