"""Few-shot classification by prototypes, without inner steps."""

import pytest
import torch
from torch.nn import functional as F

from hyper_mm.layers.meta.prototypes import DISTANCES
from tests.helpers.few_shot import build, episode

pytestmark = pytest.mark.mmpretrain


@pytest.mark.parametrize('distance', DISTANCES)
def test_training_and_prediction(distance):
    torch.manual_seed(0)
    model, data = build(classifier=dict(distance=distance, scale=5.0)), [episode()]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    first = None
    for _ in range(10):
        total, _ = model.parse_losses(model(data, mode='loss'))
        first = first or total.item()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total < first
    with torch.no_grad():
        found = model.eval()(data, mode='predict')
    assert len(found) == 6 and found[0].pred_score.shape == (3,)
    assert model.model.head.prototypes is None


def test_loss_is_that_of_the_nearest_class_mean():
    model, one = build(), episode(ways=2, shots=3)
    model.train()
    with torch.no_grad():
        support, query = (model.model.extract_feat(one[k]['inputs'])[-1] for k in one)
        labels = torch.tensor([0, 0, 0, 1, 1, 1])
        means = torch.stack([support[labels == k].mean(0) for k in (0, 1)])
        wanted = F.cross_entropy(-(torch.cdist(query, means) ** 2), labels)
        found = model.episode_loss(**one)['loss']
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_support_that_was_set():
    model, one = build().eval(), episode()
    items = [
        dict(inputs=x, data_samples=y)
        for x, y in zip(one['support']['inputs'], one['support']['data_samples'])
    ]
    with pytest.raises(RuntimeError, match='PrototypicalClsHead has no prototypes'):
        model.model(one['query']['inputs'], mode='tensor')
    model.set_support(items)
    with torch.no_grad():
        images = one['query']['inputs']
        logits = model.model.head(model.model.extract_feat(images))
        alone = model(images, one['query']['data_samples'], mode='predict')
        found = model([one], mode='predict')
    torch.testing.assert_close(torch.stack([x.pred_score for x in found]), logits.softmax(-1))
    torch.testing.assert_close(torch.stack([x.pred_score for x in alone]), logits.softmax(-1))


def test_a_model_without_a_prototypical_head_is_refused():
    with pytest.raises(TypeError, match='head must be a hyper_mm.PrototypicalClsHead, got Linear'):
        build(head='mmpretrain.LinearClsHead', num_classes=3, in_channels=8)


@pytest.mark.slow
def test_config_trains_and_tests_on_other_characters(tmp_path):
    from mmengine.config import Config
    from mmengine.runner import Runner
    from PIL import Image

    for split, number in (('train', 6), ('val', 5), ('test', 5)):
        for character in range(number):
            folder = tmp_path / split / f'Greek_character{character:02}'
            folder.mkdir(parents=True)
            for i in range(17):
                Image.new('L', (28, 28), 40 * character + i).save(folder / f'{i}.png')
    for name in ('protonet', 'maml'):
        cfg = Config.fromfile(f'configs/metaseg/{name}_conv4_omniglot.py')
        cfg.work_dir = str(tmp_path / name)
        cfg.train_cfg.update(max_iters=2, val_interval=2)
        cfg.test_cfg.seeds = [0]
        for split in ('train', 'val', 'test'):
            loader = cfg[f'{split}_dataloader']
            loader.update(num_workers=0, persistent_workers=False)
            loader.dataset.num_episodes = 2
            loader.dataset.dataset.data_root = str(tmp_path)
        runner = Runner.from_cfg(cfg)
        runner.train()
        assert 0 <= runner.test()['accuracy/top1'] <= 100
