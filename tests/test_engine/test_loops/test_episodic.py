"""Episodic loops, with the stock runner."""

import itertools

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from hyper_mm.engine.loops.episodic import EpisodicBatches
from hyper_mm.registry import DATASETS, METRICS, MODELS

from ...helpers import runs
from ...helpers.meta import Net


class Sample:
    """What a net needs of a data sample."""

    def __init__(self, labels, domain):
        self.gt_sem_seg, self.domain = torch.nn.Module(), domain
        self.gt_sem_seg.data = labels

    def set_metainfo(self, info):
        self.__dict__.update(info)

    def __contains__(self, name):
        return name == 'gt_sem_seg'


class Dots(BaseDataset):
    """Random images of domains, given by the level of their mean."""

    METAINFO = dict(classes=('background', 'dot'))

    def __init__(self, domains=('a',), noise=0.0, **kwargs):
        self.domains, self.noise = domains, noise
        super().__init__(lazy_init=True, serialize_data=False, **kwargs)
        self.full_init()

    def load_data_list(self):
        return [dict(domain=d, number=i) for d in self.domains for i in range(6)]

    def prepare_data(self, index):
        info = self.get_data_info(index)
        draw = torch.Generator().manual_seed(ord(info['domain']) * 100 + info['number'])
        labels = (torch.rand(1, 8, 7, generator=draw) > 0.5).long()
        image = torch.rand(3, 8, 7, generator=draw) + 2 * labels + ord(info['domain']) - 97
        image = image + self.noise * np.random.rand()
        return dict(inputs=image, data_samples=Sample(labels, info['domain']))


class Seen(BaseMetric):
    """Number of predictions and their mean."""

    def process(self, data_batch, data_samples):
        self.results += [float(x.mean()) for x in data_samples]

    def compute_metrics(self, results):
        return dict(count=len(results), mean=np.mean(results))


class Stack(BaseDataPreprocessor):
    def forward(self, data, training=False):
        return dict(data, inputs=torch.stack(data['inputs']))


class StackedNet(Net):
    def __init__(self):
        super().__init__()
        self.data_preprocessor = Stack()


PAIRS = ((DATASETS, Dots), (METRICS, Seen), (MODELS, StackedNet))


def register():
    for registry, cls in PAIRS:
        registry.register_module(module=cls)


@pytest.fixture(scope='module', autouse=True)
def _register():
    register()
    yield
    for registry, cls in PAIRS:
        registry.module_dict.pop(cls.__name__)


def loader(dataset, **kwargs):
    sampler = dict(type='DefaultSampler', shuffle=False)
    return dict(dict(dataset=dataset, sampler=sampler, batch_size=2, num_workers=0), **kwargs)


def runner(tmp_path, model, train=None, test=None, **kwargs):
    options = dict(kwargs)
    if train:
        optimizer = dict(type=OptimWrapper, optimizer=dict(type='SGD', lr=0.1))
        options.update(train_dataloader=train, optim_wrapper=optimizer)
    if test:
        options.update(test_dataloader=test, test_evaluator=dict(type='hyper_mm.Seen'))
    return Runner(
        model=MODELS.build(model),
        work_dir=str(tmp_path),
        randomness=dict(seed=3),
        default_scope='hyper_mm',
        log_level='WARNING',
        experiment_name=f'{tmp_path.name}{np.random.randint(10**9)}',
        **options,
    )


LEARNER = dict(type='hyper_mm.MetaLearner', model=dict(type='hyper_mm.StackedNet'), inner_lr=0.1)


def test_supports_and_queries_are_of_different_domains(tmp_path):
    seen = []

    model = dict(LEARNER, algorithm='fomaml')
    sampler = dict(type='InfiniteSampler')
    found = runner(
        tmp_path,
        model,
        loader(dict(type='hyper_mm.Dots'), sampler=sampler),
        train_cfg=dict(
            type='hyper_mm.EpisodicTrainLoop',
            max_iters=8,
            val_interval=99,
            domains=[dict(domains=(d,)) for d in 'abc'],
            num_support=2,
        ),
    )
    preprocessor = found.model.data_preprocessor.forward

    def spy(data, training=False):
        seen.append({k: {s.domain for s in data[k]['data_samples']} for k in ('support', 'query')})
        assert len(data['support']['inputs']) == 4 and len(data['query']['inputs']) == 2
        return preprocessor(data, training)

    found.model.data_preprocessor.forward = spy
    before = found.model.model.conv.weight.clone()
    found.train()
    assert (found.model.model.conv.weight != before).any()
    assert len(seen) == 8
    assert all(len(x['support']) == 2 and not x['support'] & x['query'] for x in seen)
    assert len({tuple(x['query']) for x in seen}) > 1


def test_batches_are_a_function_of_the_seed():
    batches = [itertools.repeat(dict(inputs=[d], data_samples=[d])) for d in 'abc']
    drawn = []
    for seed in (0, 0, 1):
        found = EpisodicBatches(batches, seed)
        drawn.append([next(found)['query']['inputs'] for _ in range(9)])
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(ValueError, match='seed'):
        EpisodicBatches(iter([]))


def train(folder, workers=0, **kwargs):
    """Six steps on augmented images, with checkpoints at 3 and 6."""
    data = loader(dict(type='hyper_mm.Dots', noise=0.5), num_workers=workers)
    data.update(sampler=dict(type='InfiniteSampler'), persistent_workers=workers > 0)
    torch.manual_seed(0)
    found = runner(
        folder,
        dict(LEARNER, algorithm='maml'),
        data,
        train_cfg=dict(
            type='hyper_mm.EpisodicTrainLoop',
            max_iters=6,
            val_interval=99,
            domains=[dict(domains=(d,)) for d in 'abc'],
        ),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False)),
        custom_hooks=[dict(type='hyper_mm.ExactResumeHook')],
        **kwargs,
    )
    found.optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type='Adam', lr=0.01))
    found.train()
    return folder / 'iter_6.pth'


@pytest.mark.parametrize('workers', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, workers):
    unbroken, again = (runs.weights(train(tmp_path / name, workers)) for name in 'ab')
    assert runs.differing(unbroken, again) == []
    middle = str(tmp_path / 'a' / 'iter_3.pth')
    resumed = runs.weights(train(tmp_path / 'c', workers, resume=True, load_from=middle))
    assert runs.differing(unbroken, resumed) == []
    assert runs.differing(unbroken, runs.weights(tmp_path / 'a' / 'iter_3.pth'))


def few_shot(folder, **options):
    dataset = dict(type='hyper_mm.Dots', domains='abc')
    episodes = dict(type='hyper_mm.EpisodeDataset', dataset=dataset, by='domain', k_shot=2)
    episodes.update(n_query=3, num_episodes=4)
    torch.manual_seed(0)
    return runner(
        folder,
        LEARNER,
        test=loader(episodes),
        test_cfg=dict(type='hyper_mm.FewShotEvalLoop', seeds=[0, 1], **options),
    )


def _rank(rank, folder):
    torch.set_num_threads(1)
    store = f'file://{folder}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    register()
    metrics = few_shot(folder).test()
    torch.save(metrics, folder / f'{rank}.pth')
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_evaluate_as_one(tmp_path):
    torch.multiprocessing.spawn(_rank, (tmp_path,), nprocs=2)
    expected = few_shot(tmp_path).test()
    for rank in range(2):
        assert torch.load(tmp_path / f'{rank}.pth', weights_only=False) == pytest.approx(expected)


def test_few_shot_evaluation_over_seeds(tmp_path):
    found = few_shot(tmp_path)
    state = {k: v.clone() for k, v in found.model.state_dict().items()}
    metrics = found.test()
    assert metrics['count'] == 12 and metrics['count_std'] == 0 and metrics['mean_std'] > 0
    assert all(torch.equal(state[k], v) for k, v in found.model.state_dict().items())
    again = found.test()
    assert again == metrics == few_shot(tmp_path).test()


@pytest.mark.parametrize('fp16', [False, True])
def test_few_shot_evaluation_in_half_precision(tmp_path, fp16):
    """The queries are; the learner takes its inner steps, with gradients, in float32."""
    found, seen = few_shot(tmp_path, fp16=fp16), set()

    def spy(conv, inputs, output):
        seen.add((torch.is_grad_enabled(), output.dtype))  # of weights in float32: by autocast

    found.model.model.conv.register_forward_hook(spy)
    assert np.isfinite(found.test()['mean'])
    half = torch.float16 if torch.cuda.is_available() else torch.bfloat16
    assert seen == {(True, torch.float32), (False, half if fp16 else torch.float32)}
    assert all(p.dtype == torch.float32 for p in found.model.parameters())


@pytest.mark.parametrize(
    'options, message',
    [(dict(domains=[{}]), 'domains'), (dict(domains=[{}, {}], num_support=2), 'num_support')],
)
def test_too_few_domains(tmp_path, options, message):
    cfg = dict(type='hyper_mm.EpisodicTrainLoop', max_iters=1, **options)
    with pytest.raises(ValueError, match=message):
        runner(tmp_path, LEARNER, loader(dict(type='hyper_mm.Dots')), train_cfg=cfg).train()


@pytest.mark.parametrize(
    'dataset, options, message',
    [
        (None, dict(seeds=[]), 'seeds'),
        (dict(type='hyper_mm.Dots'), dict(), 'EpisodeDataset'),
    ],
)
def test_bad_evaluation(tmp_path, dataset, options, message):
    dots = dict(type='hyper_mm.Dots', domains='ab')
    dataset = dataset or dict(type='hyper_mm.EpisodeDataset', dataset=dots, by='domain')
    cfg = dict(type='hyper_mm.FewShotEvalLoop', **options)
    with pytest.raises(ValueError, match=message):
        runner(tmp_path, LEARNER, test=loader(dataset), test_cfg=cfg).test()
