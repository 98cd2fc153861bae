# mmdet's schedule of Mask2Former on COCO panoptic: 8 GPUs x 2 images, 368,750 iterations
embed_multi = dict(lr_mult=1.0, decay_mult=0.0)
max_iters = 368750
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='hyper_mm.ComponentOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    paramwise_cfg=dict(
        custom_keys={
            'query_embed': embed_multi,
            'query_feat': embed_multi,
            'level_embed': embed_multi,
        },
        norm_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=0.01, norm_type=2),
)
param_scheduler = dict(
    type='MultiStepLR', begin=0, end=max_iters, by_epoch=False, milestones=[327778, 355092],
    gamma=0.1,
)  # fmt: skip
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)
