"""Mixed tasks: one stream of episodes, one backbone."""

import copy

import pytest
import torch

for name in ('mmseg', 'mmdet', 'mmpretrain'):
    pytest.importorskip(name)

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from hyper_mm.datasets.mixed_episodes import Episode  # noqa: E402
from hyper_mm.registry import DATASETS, MODELS  # noqa: E402
from tests.helpers.mixed_tasks import BACKBONE, NORMALISE, episode_configs, mixed, register_scopes  # noqa: E402

pytestmark = [pytest.mark.mmseg, pytest.mark.mmdet, pytest.mark.mmpretrain]


@pytest.fixture(scope='module')
def datasets(tmp_path_factory):
    return episode_configs(tmp_path_factory.mktemp('scenes'))


@pytest.fixture(autouse=True)
def _scopes():
    register_scopes()


def tasks():
    return dict(
        seg=dict(
            _scope_='mmseg',
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64), **NORMALISE),
            decode_head=dict(
                type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1, num_classes=2
            ),
            test_cfg=dict(mode='whole'),
        ),
        det=dict(
            _scope_='mmdet',
            type='FCOS',
            data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32, **NORMALISE),
            neck=dict(
                type='FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5, start_level=0
            ),
            bbox_head=dict(
                type='FCOSHead', num_classes=2, in_channels=16, feat_channels=16, stacked_convs=1,
                strides=[4, 8, 16, 32, 64], norm_cfg=dict(type='GN', num_groups=4),
            ),
            test_cfg=dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.6), max_per_img=5),
        ),
        cls=dict(
            _scope_='mmpretrain',
            type='ImageClassifier',
            data_preprocessor=dict(type='ClsDataPreprocessor', **NORMALISE),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
        ),
    )  # fmt: skip


def learner(**options):
    model = dict(type='hyper_mm.MultiTaskModel', backbone=BACKBONE, tasks=tasks())
    return ConfigDict(type='hyper_mm.MetaLearner', model=model, inner_lr=0.01, **options)


def test_one_backbone(datasets):
    model = MODELS.build(learner()).model
    assert len({id(m.backbone) for m in model.tasks.values()}) == 1
    names = [name for name, _ in model.named_parameters() if 'backbone.conv1' in name]
    assert len(names) == 1 and model.backbone is model.tasks['cls'].backbone


def test_a_batch_of_several_tasks_trains_what_each_uses(datasets):
    model = MODELS.build(learner(algorithm='fomaml'))
    data = DATASETS.build(mixed(datasets))
    episodes = {e.support['task']: e for e in (data[i] for i in range(12))}
    batch = model.data_preprocessor([episodes['seg'], episodes['cls']], True)
    losses = model(**batch, mode='loss')
    assert {'query/seg.decode.ce', 'query/cls', 'meta/support', 'loss_meta'} <= losses.keys()
    model.parse_losses(losses)[0].backward()
    found = {n: p.grad is not None for n, p in model.model.named_parameters()}
    assert not [n for n, v in found.items() if 'backbone' in n and not v]
    assert all(found[n] == ('tasks.det' not in n) for n in found if 'head' in n)


def test_trains_and_tests_with_the_stock_runner(datasets, tmp_path):
    loader = dict(num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    metrics = dict(
        seg=dict(type='hyper_mm.FewShotIoUMetric'),
        cls=dict(type='mmpretrain.Accuracy'),
        det=dict(type='mmdet.VOCMetric', eval_mode='area'),
    )
    runner = Runner(
        model=MODELS.build(learner(algorithm='fomaml')),
        work_dir=str(tmp_path),
        train_dataloader=dict(loader, batch_size=3, dataset=mixed(datasets, num_episodes=6)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(type=OptimWrapper, optimizer=dict(type='SGD', lr=0.01)),
        test_dataloader=dict(loader, batch_size=1, dataset=mixed(datasets, num_episodes=8)),
        test_cfg=dict(type='hyper_mm.FewShotEvalLoop', seeds=[0]),
        test_evaluator=[
            dict(type='hyper_mm.TaskMetric', task=task, metric=metric)
            for task, metric in metrics.items()
        ],
        default_scope='mmseg',
        randomness=dict(seed=0),
        log_level='WARNING',
        experiment_name=tmp_path.name,
    )
    before = copy.deepcopy(runner.model.state_dict())
    runner.train()
    state = runner.model.state_dict()
    for part in ('seg.decode_head', 'det.bbox_head', 'cls.head', 'seg.backbone'):
        names = [n for n in state if n.startswith(f'model.tasks.{part}')]
        assert any(not torch.equal(before[n], state[n]) for n in names), part
    found = runner.test()
    assert {'seg/mIoU', 'cls/top1', 'det/mAP'} <= found.keys()


def test_bad_input():
    config = learner()['model']
    with pytest.raises(ValueError, match='tasks'):
        MODELS.build(dict(config, tasks={}))
    with pytest.raises(ValueError, match='backbone'):
        MODELS.build(dict(config, tasks=dict(seg=dict(tasks()['seg'], backbone=BACKBONE))))
    model = MODELS.build(config)
    with pytest.raises(ValueError, match="got 'depth'"):
        model(torch.zeros(1, 3, 8, 8), task='depth')
    episode = Episode(dict(inputs=[], data_samples=[]), dict(inputs=[], data_samples=[]))
    with pytest.raises(ValueError, match='task'):
        MODELS.build(learner()).data_preprocessor([episode], True)
