# A small random CLIP, frozen, with CAT-Seg's head on 133 classes of COCO; 13 are held out.
#   python tools/train.py configs/hyperclip/clip-mini_coco133.py
# Result: 0.1 mIoU after 60 iterations, random towers (docs/tables/hyperclip_coco133.md)
# Data: data/coco133_sem (or where HYPER_MM_DATA says). 120 iterations of 4 images. The towers are
# random: it shows that everything runs, not what CLIP can do. Other arms: --cfg-options
# model.finetune=full, or --cfg-options model.adapter.type=hyper_mm.LoRAAdapter
# model.adapter.rank=32
_base_ = [
    '../_base_/models/clip-mini.py',
    '../_base_/datasets/coco133.py',
    '../_base_/default_runtime_open_vocab.py',
    '../_base_/schedules/adamw_80k_clip.py',
]
seen = {{_base_.seen}}
model = dict(
    train_vocabulary=seen,
    vocabulary='coco133',
    decode_head=dict(aggregator=dict(pad_len=133)),
    text=dict(chunk=64),
)
train_dataloader = dict(dataset=dict(classes=seen))
val_evaluator = dict(type='hyper_mm.OVIoUMetric', unseen_classes={{_base_.unseen}})
test_evaluator = val_evaluator
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys={'clip': dict(lr_mult=0.1)})
)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.0, T_max=120, begin=0, end=120, by_epoch=False)
]
train_cfg = dict(max_iters=120, val_interval=120)
default_hooks = dict(checkpoint=dict(interval=120, max_keep_ckpts=2), logger=dict(interval=20))
