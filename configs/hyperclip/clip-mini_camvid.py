# A small random CLIP, frozen, with CAT-Seg's head on CamVid; two classes are held out.
#   python tools/train.py configs/hyperclip/clip-mini_camvid.py
# Result: 9.52 ± 5.99 mIoU after 120 iterations, random towers, seeds 0 1 2 (docs/tables/hyperclip_camvid.md)
# Data: data/camvid (or where HYPER_MM_DATA says). 250 iterations of 4 images. Random towers: it
# shows that everything runs, not what CLIP can do. Other arms: --cfg-options model.finetune=full,
# or --cfg-options model.adapter.type=hyper_mm.LoRAAdapter model.adapter.rank=32
_base_ = [
    '../_base_/models/clip-mini.py',
    '../_base_/datasets/camvid.py',
    '../_base_/default_runtime_open_vocab.py',
    '../_base_/schedules/adamw_80k_clip.py',
]
seen = ['sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'pedestrian', 'bicyclist']
unseen = ['fence', 'car']
model = dict(
    train_vocabulary=seen,
    vocabulary=[*seen[:7], *unseen, *seen[7:]],  # the order of the labels
)
train_dataloader = dict(
    batch_size=4, num_workers=1, dataset=dict(metainfo=dict(classes=seen))
)  # mmseg gives pixels of other classes the label 255
val_dataloader = dict(num_workers=1)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='hyper_mm.OVIoUMetric', seen_classes=seen)
test_evaluator = val_evaluator
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys={'clip': dict(lr_mult=0.1)})
)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.0, T_max=250, begin=0, end=250, by_epoch=False)
]
train_cfg = dict(max_iters=250, val_interval=250)
default_hooks = dict(checkpoint=dict(interval=250, max_keep_ckpts=2), logger=dict(interval=20))
