"""Mixed tasks: one stream of episodes, one backbone."""

import copy

import pytest
import torch

for name in ('mmseg', 'mmdet', 'mmpretrain'):
    pytest.importorskip(name)

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from hyper_mm.datasets.mixed_episodes import Episode  # noqa: E402
from hyper_mm.datasets.part_scenes import generate  # noqa: E402
from hyper_mm.registry import DATASETS, METRICS, MODELS  # noqa: E402

pytestmark = [pytest.mark.mmseg, pytest.mark.mmdet, pytest.mark.mmpretrain]
NORMALISE = dict(mean=[120.0] * 3, std=[60.0] * 3)
BACKBONE = dict(
    type='mmpretrain.ResNet',
    depth=18,
    stem_channels=8,
    base_channels=8,
    norm_cfg=dict(type='GN', num_groups=4),
    out_indices=(0, 1, 2, 3),
    init_cfg=None,
)


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


@pytest.fixture(scope='module')
def datasets(tmp_path_factory):
    """Configs of episodes of the three forms of PartScenes."""
    folder = tmp_path_factory.mktemp('scenes')
    roots = generate(folder, ['ade', 'coco', 'imagenet'], 24, 0, (64, 64), progress=False)
    load = dict(type='LoadImageFromFile')
    keys = ('ori_shape', 'img_shape', 'scale_factor')
    episode = dict(type='hyper_mm.EpisodeDataset')
    return dict(
        seg=dict(
            episode,
            k_shot=2,
            classes=[0, 4, 8, 12],
            dataset=dict(
                _scope_='mmseg',
                type='hyper_mm.PartScenesWholesDataset',
                data_root=str(roots['ade']),
                data_prefix=dict(
                    img_path='images/training', seg_map_path='annotations_wholes/training'
                ),
                pipeline=[
                    load,
                    dict(type='LoadAnnotations', reduce_zero_label=True),
                    dict(type='PackSegInputs', meta_keys=('img_path', *keys)),
                ],
            ),
        ),
        det=dict(
            episode,
            n_way=2,
            dataset=dict(
                _scope_='mmdet',
                type='hyper_mm.PartScenesDetDataset',
                data_root=str(roots['coco']),
                ann_file='annotations/instances_train.json',
                data_prefix=dict(img='train/'),
                pipeline=[
                    load,
                    dict(type='LoadAnnotations', with_bbox=True),
                    dict(type='Resize', scale=(64, 64)),
                    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', *keys)),
                ],
            ),
        ),
        cls=dict(
            episode,
            n_way=3,
            dataset=dict(
                _scope_='mmpretrain',
                type='CustomDataset',
                data_root=str(roots['imagenet']),
                data_prefix='train',
                pipeline=[load, dict(type='PackInputs', meta_keys=('img_path', *keys[:2]))],
            ),
        ),
    )


@pytest.fixture(autouse=True)
def _scopes():
    from mmdet.utils import register_all_modules as mmdet
    from mmpretrain.utils import register_all_modules as mmpretrain
    from mmseg.utils import register_all_modules as mmseg

    for register in (mmdet, mmpretrain, mmseg):
        register(init_default_scope=False)
    DefaultScope.get_instance(f'mixed{len(DefaultScope._instance_dict)}', scope_name='mmseg')


def mixed(datasets, **options):
    return dict(type='hyper_mm.MixedEpisodeDataset', datasets=datasets, **options)


def test_the_stream_draws_all_kinds(datasets):
    config = mixed(datasets, num_episodes=30, weights=dict(seg=1, det=1, cls=2))
    data = DATASETS.build(config)
    items = [data[i] for i in range(12)]
    kinds = [item.support['task'] for item in items]
    assert {*kinds} == {'seg', 'det', 'cls'} and len(data) == 30 and data.queries == 3
    assert data.metainfo['tasks']['det'] == data.datasets['det'].metainfo
    sizes = dict(seg=(2, 1), det=(2, 2), cls=(3, 3))
    for item in items:
        task = item.query['task']
        assert (len(item.support['inputs']), len(item.query['inputs'])) == sizes[task]
        assert all(sample.task == task for sample in item.query['data_samples'])
    again = DATASETS.build(config)
    assert kinds == [again[i].support['task'] for i in range(12)]
    again.seed = 1
    assert kinds != [again[i].support['task'] for i in range(12)]
    one = DATASETS.build(mixed(dict(cls=datasets['cls'])))
    paths = [[s.img_path for s in one[i].support['data_samples']] for i in (0, 0, 1)]
    assert paths[0] == paths[1] != paths[2]


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


def test_bad_input(datasets):
    with pytest.raises(ValueError, match='at least one'):
        DATASETS.build(mixed({}))
    with pytest.raises(ValueError, match='weights'):
        DATASETS.build(mixed(datasets, weights=dict(seg=1)))
    with pytest.raises(ValueError, match='num_episodes'):
        DATASETS.build(mixed(datasets, num_episodes=0))
    with pytest.raises(ValueError, match='seed'):
        DATASETS.build(mixed(datasets, seed=-1))
    with pytest.raises(TypeError, match='EpisodeDataset'):
        DATASETS.build(mixed(dict(seg=datasets['seg']['dataset'])))
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


def test_a_metric_sees_its_own_task():
    metric = METRICS.build(
        dict(type='hyper_mm.TaskMetric', task='cls', metric=dict(type='mmpretrain.Accuracy'))
    )
    metric.dataset_meta = dict(tasks=dict(cls=dict(classes=('a', 'b'))))
    right = dict(task='cls', pred_label=torch.tensor([1]), gt_label=torch.tensor([1]))
    wrong = dict(right, pred_label=torch.tensor([0]))
    metric.process({}, [dict(task='seg')])
    metric.process({}, [right, wrong, dict(task='seg')])
    assert metric.evaluate(2) == {'cls/top1': 50.0}
    metric.process({}, [dict(task='seg')])
    assert metric.evaluate(1) == {}
