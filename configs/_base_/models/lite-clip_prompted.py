# LiteCLIP (two packages of PyPI), frozen, with deep prompts of its text tower and their schedule; its
# image tower is convolutional and has no tokens for prompts.
_base_ = '../schedules/sgd_prompts.py'
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    to_rgb=True,
)
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
