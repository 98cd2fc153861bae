# 2,400 steps of the optimizer on 2,097,152 tokens each (5 B): 4 GPUs x 4 sequences of 2,048 x 64
# accumulated; AdamW in bfloat16, 3 % warm-up, cosine to a tenth.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    accumulative_counts=64,
    optimizer=dict(type='AdamW', lr=4e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
    constructor='hyper_mm.HyperbolicOptimWrapperConstructor',  # what has no weight decay
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=72 * 64, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.1, begin=72 * 64, end=2400 * 64, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2400 * 64, val_interval=2400 * 64)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
