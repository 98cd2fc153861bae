# LiteCLIP (two packages of PyPI), frozen, with deep prompts of its text tower and their schedule; its
# image tower is convolutional and has no tokens for prompts. A config gives the mean and standard
# deviation of its images, 127.5.
_base_ = '../schedules/sgd_prompts.py'
model = dict(
    type='hyper_mm.PromptedCLIP',
    clip=dict(model='lite-clip-b0'),
    prompts=dict(type='CoOp', num_context=4, words='a photo of a', depth=6),
    chunk=64,
    checkpoint=True,
)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type='ConstantLR', factor=1e-5 / 0.02, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=5, eta_min=0.0, by_epoch=True, begin=1, end=10000),
]
train_cfg = dict(max_epochs=5, val_interval=5)
val_cfg = None  # tools/test.py says how good it is
default_hooks = dict(checkpoint=dict(interval=5))
