# 400 steps of 8 x 128 tokens, two thirds of the corpus once; AdamW, warm-up, cosine to a tenth.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
    constructor='hyper_mm.HyperbolicOptimWrapperConstructor',  # what has no weight decay
)
iters = 400
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=30, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.1, begin=30, end=iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
