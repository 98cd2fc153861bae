# Small classifiers from random weights: AdamW 1e-3 with a warm-up of half an epoch and a cosine.
# A config sets the number of epochs by max_epochs and T_max.
_base_ = '../default_runtime_mmpretrain.py'
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='hyper_mm.ComponentOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        component_lr_mult=1.0,  # the backbone is as new as any component: one learning rate
        custom_keys={
            'pos_embed': dict(decay_mult=0.0),
            'cls_token': dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=64)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
