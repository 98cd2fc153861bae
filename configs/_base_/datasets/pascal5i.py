# Pascal-5i: VOC 2012 and SBD in the layout of mmseg (data/VOCdevkit/VOC2012 with
# SegmentationClassAug), 20 classes in four folds. Trained on episodes of 15 classes (1-way 1-shot),
# tested on 1000 episodes of the 5 others, five seeds. Another fold: --cfg-options
# train_dataloader.dataset.fold=1 test_dataloader.dataset.fold=1; 5-shot: ...dataset.k_shot=5
data_root = 'data/VOCdevkit/VOC2012'
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    # no image is larger: all are tested at full size, and the images of a support are padded
    size=(512, 512),
)
meta_keys = ('img_path', 'seg_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=(417, 417)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
voc = dict(
    type='PascalVOCDataset',
    data_root=data_root,
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    ann_file='ImageSets/Segmentation/train.txt',
    pipeline=train_pipeline,
)
sbd = dict(
    voc,
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
    ann_file='ImageSets/Segmentation/aug.txt',
)
val = dict(voc, ann_file='ImageSets/Segmentation/val.txt', pipeline=test_pipeline)
episodes = dict(
    type='hyper_mm.EpisodeDataset', n_way=1, k_shot=1, n_query=1, background=0, fold=0, num_folds=4
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        episodes, num_episodes=30000, dataset=dict(type='ConcatDataset', datasets=[voc, sbd])
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(episodes, num_episodes=1000, novel=True, dataset=val, pipeline=test_pipeline),
)
test_evaluator = dict(type='hyper_mm.FewShotIoUMetric')
