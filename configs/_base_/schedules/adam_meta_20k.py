# FedDG's optimizer and length (100 rounds of its training slices in batches of 5)
_base_ = './adam_meta_small.py'
max_iters = 20000
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-5, power=0.9, begin=0, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
