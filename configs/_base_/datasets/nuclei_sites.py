# Nuclei in microscopy (Data Science Bowl 2018, BBBC038, CC0), four domains by appearance, one
# folder each: <site>/{images,annotations}/{train,val}; 0 background, 1 nucleus. Trained on three,
# tested on the fourth; in data/, or where HYPER_MM_DATA says
dataset_type = 'hyper_mm.SiteSegDataset'
data_root = '{{$HYPER_MM_DATA:data}}/nuclei'
metainfo = dict(classes=('background', 'nucleus'), palette=[[0, 0, 0], [220, 60, 60]])
train_sites = ['fluorescence', 'stained_light', 'brightfield']
test_sites = ['stained_tissue']
crop_size = (128, 128)
augment = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(256, 256), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
]
meta_keys = ('img_path', 'seg_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor')
train_pipeline = [*augment, dict(type='PackSegInputs', meta_keys=meta_keys)]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
train_dataloader = dict(
    batch_size=5,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        sites=train_sites,
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        sites=test_sites,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice'])
test_evaluator = val_evaluator
