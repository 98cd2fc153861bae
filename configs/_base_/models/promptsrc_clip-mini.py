# PromptSRC on a small CLIP, whose towers have two and three blocks, and its schedule
_base_ = ['clip-mini_prompted.py', '../schedules/sgd_prompts.py']
model = dict(
    prompts=dict(type='IVLP', num_context=4, num_image=4, depth=2, image_depth=3),
    consistency=dict(
        text=25.0,
        image=10.0,
        logits=1.0,
        templates=['a photo of a {}.', 'a {}.', 'a park with a {}', 'a street with a {}'],
    ),
)
optim_wrapper = dict(optimizer=dict(lr=0.0025))
param_scheduler = [
    dict(type='ConstantLR', factor=1e-5 / 0.0025, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=15, eta_min=0.0, by_epoch=True, begin=1, end=10000),
]
train_cfg = dict(max_epochs=15, val_interval=15)
val_cfg = None  # tools/test.py says how good it is
default_hooks = dict(checkpoint=dict(interval=15))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.DatasetVocabularyHook'),
    dict(type='hyper_mm.PromptAveragingHook', mean=11.0, std=2.0),
]
