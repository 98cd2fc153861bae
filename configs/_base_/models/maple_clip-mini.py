# MaPLe on a small CLIP, whose text tower has two blocks, and its schedule
_base_ = ['clip-mini_prompted.py', '../schedules/sgd_prompts.py']
model = dict(prompts=dict(type='MaPLe', num_context=2, depth=2, words='a photo of a'))
optim_wrapper = dict(optimizer=dict(lr=0.0035))
param_scheduler = [
    dict(type='ConstantLR', factor=1e-5 / 0.0035, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=15, eta_min=0.0, by_epoch=True, begin=1, end=10000),
]
train_cfg = dict(max_epochs=15, val_interval=15)
val_cfg = None  # tools/test.py says how good it is
default_hooks = dict(checkpoint=dict(interval=15))
