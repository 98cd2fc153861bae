# The official recipe of CAT-Seg and HyperCLIP: 4 GPUs x 1 image, 80k iterations, no warm-up
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(custom_keys={'clip': dict(lr_mult=0.01)}),  # what of CLIP is trained
)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.0, T_max=80000, begin=0, end=80000, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=80000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=4)
