import pytest
import torch

from hyper_mm.evaluation.metrics.text_hierarchy import (
    HierarCapsMetric,
    HierarchicalRecall,
    HyperLexMetric,
    ImageTextRecall,
)
from hyper_mm.registry import METRICS

from ...conftest import golden_files
from ...helpers.golden import Golden


def score(metric, samples):
    metric.process({}, samples[: len(samples) // 2])
    metric.process({}, samples[len(samples) // 2 :])
    return metric.evaluate(len(samples))


def caption_samples(g):
    ids, words = g['hc_text_id'], g['hc_words']
    return [
        dict(
            task='hierarcaps',
            image_feature=g['hc_img'][g['hc_img_index'][n]],
            image_id=int(g['hc_img_index'][n]),
            text_features=g['hc_text'][n],
            root=g['hc_root'],
            texts=[' '.join([str(int(i))] * int(w)) for i, w in zip(ids[n], words[n])],
        )
        for n in range(len(ids))
    ]


@pytest.mark.parametrize('file', golden_files('radial*.npz'))
def test_golden_hierarcaps(file):
    g = Golden(file, torch.float32)
    samples = caption_samples(g)
    for sample, ids in zip(samples, g['hc_text_id']):
        sample['texts'] = [f'text {i}' for i in ids.tolist()]
    found = score(HierarCapsMetric(steps=int(g['hc_steps'])), samples)
    for name in ('precision', 'recall', 'tau_d'):
        assert found[f'hierarcaps/{name}'] == pytest.approx(g.exact(f'hc_{name}').item(), abs=1e-6)


@pytest.mark.parametrize('file', golden_files('radial*.npz'))
def test_golden_length_baseline_and_other_tasks(file):
    g = Golden(file, torch.float32)
    metric = HierarCapsMetric(steps=5)
    found = score(metric, [*caption_samples(g), dict(task='hyperlex')])
    expected = g.exact('hc_tau_len_b').item()
    assert found['hierarcaps/tau_d_words'] == pytest.approx(expected, abs=1e-6)
    short = score(HierarCapsMetric(5, report_length_baseline=False), caption_samples(g))
    assert not any('words' in name for name in short)


@pytest.mark.parametrize('file', golden_files('radial*.npz'))
def test_golden_hyperlex(file):
    g = Golden(file, torch.float32)
    samples = [
        dict(
            task='hyperlex',
            text_features=torch.stack([g['hl_specific'][n], g['hl_general'][n]]),
            root=g['hl_root'],
            pos='N' if g['hl_is_noun'][n] else 'V',
            score=g['hl_gold'][n].item(),
        )
        for n in range(len(g['hl_gold']))
    ]
    found = score(HyperLexMetric(), samples)
    for name, key in (('rho', 'rho_all'), ('rho_nouns', 'rho_noun'), ('rho_radius',) * 2):
        key = 'rho_radius_all' if key == 'rho_radius' else key
        assert found[f'hyperlex/{name}'] == pytest.approx(g.exact(f'hl_{key}').item(), abs=1e-3)
    assert 'hyperlex/rho_verbs' in found


def test_hierarchical_recall():
    texts = dict(zip(('dog', 'cat', 'animal', 'car', 'thing'), torch.eye(5)))
    image = texts['dog'] + 0.5 * texts['animal'] + 0.1 * texts['cat']
    other = texts['car'] + 0.9 * texts['cat'] + 0.5 * texts['thing']
    samples = [
        dict(
            task='names',
            image_feature=feature,
            texts=names,
            text_features=torch.stack([texts[name] for name in names]),
        )
        for feature, names in (
            (image, ['dog', 'animal']),
            (image - 2 * texts['dog'], ['cat', 'animal']),
            (other, ['car', 'thing']),
        )
    ]
    found = score(HierarchicalRecall(topk=(1, 2, 3)), samples)
    assert found['breeds/R@1'] == 0
    assert found['breeds/R@2'] == pytest.approx(2 / 3)
    assert found['breeds/R@3'] == 1
    found = score(HierarchicalRecall(topk=(1, 2), hit='mean', prefix='mean'), samples)
    assert found == {'mean/R@1': 0.5, 'mean/R@2': pytest.approx(5 / 6)}


def test_image_text_recall_of_images_with_different_numbers_of_texts():
    images = torch.eye(3)
    texts = [images[[0, 1]], images[[1]], images[[0, 2, 2]] + 0.1 * images[1]]
    samples = [
        dict(task='retrieval', image_id=i, image_feature=2 * image, text_features=of_image)
        for i, (image, of_image) in enumerate(zip(images, texts))
    ]
    found = score(ImageTextRecall(topk=(1, 2, 3)), [dict(task='names'), *samples])
    expected = {'i2t_R@1': 2 / 3, 'i2t_R@2': 1, 't2i_R@1': 4 / 6, 't2i_R@2': 4 / 6, 't2i_R@3': 1}
    for name, value in expected.items():
        assert found[f'retrieval/{name}'] == pytest.approx(value), name
    with pytest.raises(ValueError, match='each image must be there once'):
        score(ImageTextRecall(), [*samples, samples[0]])


def test_bad_inputs():
    with pytest.raises(ValueError, match='steps'):
        HierarCapsMetric(steps=1)
    with pytest.raises(ValueError, match='topk'):
        HierarchicalRecall(topk=())
    with pytest.raises(ValueError, match='topk'):
        ImageTextRecall(topk=(0, 1))
    with pytest.raises(ValueError, match="hit must be one of.*'any'"):
        HierarchicalRecall(hit='any')
    with pytest.raises(ValueError, match=r"lacks \['root'"):
        HyperLexMetric().process({}, [dict(task='hyperlex', text_features=torch.rand(2, 3))])
    with pytest.raises(ValueError, match="no data sample has the task 'hierarcaps'"):
        HierarCapsMetric().compute_metrics([])


def test_registered():
    for name in ('HierarCapsMetric', 'HyperLexMetric', 'HierarchicalRecall', 'ImageTextRecall'):
        assert METRICS.build(dict(type=f'hyper_mm.{name}')).__class__.__name__ == name
