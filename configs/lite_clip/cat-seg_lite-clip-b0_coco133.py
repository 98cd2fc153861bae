# Cost aggregation (CAT-Seg) trained on frozen LiteCLIP, 120 of 133 classes of COCO; 13 are held out.
#   python tools/train.py configs/lite_clip/cat-seg_lite-clip-b0_coco133.py
# Result: 9.44 ± 0.76 mIoU, 10.60 of the untrained head (docs/tables/cat-seg_lite-clip.md)
# Data: data/coco133_sem (or where HYPER_MM_DATA says). 200 iterations of 4 crops of 100 images, 32
# classes a step. Its baseline is lite-clip-b0_coco133.py. The image tower has seen ImageNet's classes
# with labels. With the text tower trained beside it: cat-seg_lite-clip-b0_coco133_text.py.
_base_ = [
    '../_base_/models/lite-clip.py',
    '../_base_/datasets/coco133.py',
    '../_base_/default_runtime_open_vocab.py',
    '../_base_/schedules/adamw_80k_clip.py',
]
seen = {{_base_.seen}}
crop_size = (320, 320)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(512, 384), ratio_range=(0.75, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=1.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 384), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
model = dict(
    data_preprocessor=dict(size_divisor=None, size=crop_size),
    train_vocabulary=seen,
    vocabulary='coco133',
    train_classes=32,
    decode_head=dict(
        type='hyper_mm.CostAggregationHead',
        in_channels=(112, 40),
        guidance_channels=(32, 16),
        aggregator=dict(
            text_dim=1280,
            appearance_dim=1280,
            dim=32,
            projected_dim=32,
            decoder_dims=(16, 16),
            decoder_guidance_dims=(16, 8),
            num_layers=1,
            window=6,
            pad_len=133,
        ),
        ignore='mask',
        criterion='ce',
        residual=30.0,  # training begins at the scores of the baseline
    ),
    text=dict(chunk=64),
)
train_dataloader = dict(batch_size=4, dataset=dict(classes=seen, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='hyper_mm.OVIoUMetric', unseen_classes={{_base_.unseen}})
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.0, T_max=200, begin=0, end=200, by_epoch=False)
]
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200, max_keep_ckpts=2), logger=dict(interval=20))
