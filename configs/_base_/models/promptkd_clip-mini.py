# PromptKD between two small CLIPs, and its schedule. The teacher is what promptsrc_clip-mini_*.py
# trains: model.teacher_checkpoint, or tools/few_shot.py --teacher promptsrc.
_base_ = ['clip-mini_prompted.py', '../schedules/sgd_prompts.py']
model = dict(
    type='hyper_mm.PromptKD',
    prompts=dict(type='VPT', num_image=4, image_depth=3),
    teacher=dict(
        clip={{_base_.model.clip}},
        prompts=dict(type='IVLP', num_context=4, num_image=4, depth=2, image_depth=3),
    ),
    teacher_checkpoint=None,
    projector=False,  # both have one width
    weight=100.0,  # the mean is over a dozen classes, not over a hundred
)
optim_wrapper = dict(optimizer=dict(lr=0.005))
param_scheduler = [
    dict(type='ConstantLR', factor=1e-5 / 0.005, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=15, eta_min=0.0, by_epoch=True, begin=1, end=10000),
]
train_cfg = dict(max_epochs=15, val_interval=15)
val_cfg = None  # tools/test.py says how good it is
default_hooks = dict(checkpoint=dict(interval=15))
