# helm_5b.py with sequences one at a time, for 1 B parameters: 4 GPUs x 1 x 256 accumulated.
_base_ = 'helm_5b.py'
optim_wrapper = dict(accumulative_counts=256)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=72 * 256, by_epoch=False),
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.1, begin=72 * 256, end=2400 * 256, by_epoch=False
    ),
]
train_cfg = dict(max_iters=2400 * 256, val_interval=2400 * 256)
