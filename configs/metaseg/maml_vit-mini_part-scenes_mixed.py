# First-order MAML of one miniature ViT on tasks of three kinds: segmentation (background against one class, 5 images), detection (2 classes, 5 images each) and classification (5 classes, 5 each)
#   python tools/train.py configs/metaseg/maml_vit-mini_part-scenes_mixed.py
# Result: not trained
#   python tools/test.py configs/metaseg/maml_vit-mini_part-scenes_mixed.py CHECKPOINT
# Before it:
#   python tools/dataset_converters/part_scenes.py data/part_scenes_mixed --formats ade coco imagenet --num-train 400 --num-val 200 --size 96 96
# Data: data/part_scenes_mixed, all forms, drawn in a minute: 2000 iterations of 4 tasks.
_base_ = ['../_base_/models/faster-rcnn_vit-mini.py', '../_base_/default_runtime.py']
root = '{{$HYPER_MM_DATA:data}}/part_scenes_mixed'
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
detector = dict(_base_.model, _scope_='mmdet', data_preprocessor=_base_.data_preprocessor)
backbone = detector.pop('backbone')
detector['roi_head']['bbox_head'].update(num_classes=2)
model = dict(
    _delete_=True,
    type='hyper_mm.MetaLearner',
    algorithm='fomaml',  # mmcv's RoI pooling has no second derivative
    inner_lr=0.01,
    inner_steps=3,
    test_steps=10,
    model=dict(
        type='hyper_mm.MultiTaskModel',
        backbone=backbone,
        tasks=dict(
            seg=dict(
                _scope_='mmseg',
                type='EncoderDecoder',
                data_preprocessor=dict(
                    type='SegDataPreProcessor',
                    mean=mean,
                    std=std,
                    bgr_to_rgb=True,
                    seg_pad_val=255,
                    size=(96, 96),
                ),
                decode_head=dict(
                    type='FCNHead',
                    in_channels=128,
                    in_index=0,
                    channels=64,
                    num_convs=1,
                    concat_input=False,
                    dropout_ratio=0.0,
                    num_classes=2,
                    norm_cfg=dict(type='GN', num_groups=8),
                ),
                test_cfg=dict(mode='whole'),
            ),
            det=detector,
            cls=dict(
                _scope_='mmpretrain',
                type='ImageClassifier',
                data_preprocessor=dict(type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=True),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=5, in_channels=128),
            ),
        ),
    ),
)
# one of the top level would be that of all tasks
data_preprocessor = None
load, size = dict(type='LoadImageFromFile'), (96, 96)
keys = ('img_path', 'ori_shape', 'img_shape', 'scale_factor')
seg = dict(
    _scope_='mmseg',
    type='hyper_mm.PartScenesWholesDataset',
    data_root=f'{root}/ade',
    pipeline=[
        load,
        dict(type='LoadAnnotations', reduce_zero_label=True),
        dict(type='PackSegInputs', meta_keys=keys),
    ],
)
det = dict(
    _scope_='mmdet',
    type='hyper_mm.PartScenesDetDataset',
    data_root=f'{root}/coco',
    pipeline=[
        load,
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=size),
        dict(type='PackDetInputs', meta_keys=(*keys, 'img_id')),
    ],
)
cls = dict(
    _scope_='mmpretrain',
    type='CustomDataset',
    data_root=f'{root}/imagenet',
    pipeline=[load, dict(type='PackInputs', meta_keys=keys[:3])],
)
episodes = dict(type='hyper_mm.EpisodeDataset', k_shot=5, n_query=5)
prefix = 'annotations_wholes'
train_seg = dict(
    seg, data_prefix=dict(img_path='images/training', seg_map_path=f'{prefix}/training')
)
train_det = dict(det, data_prefix=dict(img='train/'), ann_file='annotations/instances_train.json')
train_cls = dict(cls, data_prefix='train')
val_seg = dict(
    seg, data_prefix=dict(img_path='images/validation', seg_map_path=f'{prefix}/validation')
)
val_det = dict(det, data_prefix=dict(img='val/'), ann_file='annotations/instances_val.json')
val_cls = dict(cls, data_prefix='val')
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='hyper_mm.MixedEpisodeDataset',
        num_episodes=100000,
        datasets=dict(
            seg=dict(episodes, dataset=train_seg),
            det=dict(episodes, n_way=2, dataset=train_det),
            cls=dict(episodes, n_way=5, dataset=train_cls),
        ),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='hyper_mm.MixedEpisodeDataset',
        num_episodes=60,
        datasets=dict(
            seg=dict(episodes, dataset=val_seg),
            det=dict(episodes, n_way=2, dataset=val_det),
            cls=dict(episodes, n_way=5, dataset=val_cls),
        ),
    ),
)
metric = 'hyper_mm.TaskMetric'
# the names of classes in the table of mAP mean nothing: labels are those of the episode
test_evaluator = [
    dict(type=metric, task='seg', metric=dict(type='hyper_mm.FewShotIoUMetric')),
    dict(type=metric, task='det', metric=dict(type='mmdet.VOCMetric', eval_mode='area')),
    dict(type=metric, task='cls', metric=dict(type='mmpretrain.Accuracy', topk=(1,))),
]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=2000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000, val_interval=2001)
test_cfg = dict(type='hyper_mm.FewShotEvalLoop', seeds=[0, 1, 2])
# different processes see different tasks
find_unused_parameters = True
