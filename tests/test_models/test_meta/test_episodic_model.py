"""What all models share that take episodes."""

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.models.meta.episodic_model import EpisodicModel, group_of  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.meta import Net, episodes  # noqa: E402


class Constant(EpisodicModel):
    """Losses and predictions that are what the episodes hold."""

    def episode_loss(self, support, query):
        return {name: torch.tensor(value) for name, value in query.items()}

    def episode_predict(self, support, query):
        return [support, *query]


def build(model, **kwargs):
    return MODELS.build(dict(type='hyper_mm.MetaLearner', model=model, **kwargs))


def test_collated_episodes_are_prepared():
    learner = build(Net())
    x = torch.arange(4.0).reshape(2, 2, 1, 1, 1).expand(2, 2, 3, 8, 7)
    part = [dict(inputs=[*x[k]], data_samples=[f'{k}{t}' for t in range(2)]) for k in range(2)]
    data = learner.data_preprocessor(dict(support=part, query=part[:1]), True)['inputs']
    assert len(data) == 2 and data[1]['support']['data_samples'] == ['01', '11']
    assert [v.flatten()[0] for v in data[1]['support']['inputs']] == [1, 3]
    assert len(data[0]['query']['inputs']) == 1
    data = learner.data_preprocessor(dict(support=part, query=part), False)['inputs']
    assert [q['data_samples'] for q in data[0]['query']] == [['00'], ['10']]
    with pytest.raises(ValueError, match='at least one'):
        learner.data_preprocessor(dict(support=[], query=part), True)


def test_losses_are_averaged_over_the_episodes_that_have_them():
    episodes = [dict(support={}, query=q) for q in (dict(a=1.0), dict(a=3.0, b=5.0))]
    assert Constant(Net())(episodes, mode='loss') == dict(a=2.0, b=5.0)


def test_predictions_are_those_of_the_queries_in_order():
    episodes = [dict(support='s', query=['a', 'b']), dict(support='t', query='c')]
    assert Constant(Net())(episodes, mode='predict') == ['s', 'a', 'b', 't', 'c']


def test_ordinary_batches_go_to_the_model():
    model, x = Constant(Net()), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(model(x), model.model(x))
    with pytest.raises(ValueError, match='trained on episodes, got an ordinary batch'):
        model(x, mode='loss')
    with pytest.raises(ValueError, match="'loss' or 'predict' for episodes, got 'tensor'"):
        model([dict(support={}, query={})])


@pytest.mark.parametrize('name', ['pretrained', 'train_cfg'])
def test_settings_of_a_segmentor_are_refused(name):
    with pytest.raises(ValueError, match=f'{name} must be None for Constant'):
        Constant(Net(), **{name: dict(a=1)})


class Backbone(torch.nn.Module):
    """The first layer of the small net."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, x):
        return (self.norm(torch.tanh(self.conv(x))),)


class WithBackbone(Net):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()

    def features(self, x):
        return self.backbone(x)[0]


@pytest.mark.parametrize('algorithm', ['fomaml', 'maml', 'reptile'])
def test_task_contrast(algorithm):
    options = dict(algorithm=algorithm)
    learner = build(WithBackbone(), task_contrast=dict(weight=0.5, temperature=0.2), **options)
    plain = build(WithBackbone(), **options)
    assert 'loss_task_contrast' not in plain(episodes(3), mode='loss')
    data = episodes(3)
    before = [buffer.clone() for buffer in learner.model.buffers()]
    vectors = [learner.representation(data[0]['support']) for _ in range(2)]
    assert vectors[0].shape == (4,) and torch.equal(*vectors)
    # it leaves no trace in the running statistics
    assert all(torch.equal(a, b) for a, b in zip(before, learner.model.buffers()))
    losses = learner(data, mode='loss')
    support, query = (
        torch.stack([learner.representation(e[part]) for e in data]) for part in data[0]
    )
    wanted = 0.5 * learner.task_contrast(support, query)
    torch.testing.assert_close(losses['loss_task_contrast'], wanted)
    learner.parse_losses(losses)[0].backward()
    assert learner.model.backbone.conv.weight.grad.abs().sum() > 0
    assert learner(episodes(1), mode='loss')['loss_task_contrast'] == 0


def test_task_contrast_refuses():
    with pytest.raises(ValueError, match='task_contrast needs a model with a backbone, got Net'):
        build(Net(), task_contrast=dict())
    with pytest.raises(ValueError, match='weight'):
        build(WithBackbone(), task_contrast=dict(weight=-1.0))

    class Tokens(Backbone):
        def forward(self, x):
            return super().forward(x)[0].flatten(2).mT

    learner = build(WithBackbone(), task_contrast=dict())
    learner.model.backbone = Tokens()
    with pytest.raises(ValueError, match='takes maps'):
        learner.representation(episodes(1)[0]['query'])


def test_groups_of_tasks():
    from mmengine.structures import BaseDataElement

    def batch(**meta):
        return dict(data_samples=[BaseDataElement(metainfo=meta)])

    assert group_of(batch()) is None
    assert group_of(batch(domain='a')) == group_of(batch(domain='a')) != group_of(batch(domain='b'))
    one, two = batch(episode_classes=(2, 1)), batch(episode_classes=(1, 2))
    assert group_of(one) == group_of(two) != group_of(dict(two, task='det'))
