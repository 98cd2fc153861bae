# PromptSRC on Caltech101, from base to new classes.
#   python tools/train.py configs/lathadapter/promptsrc_vit-b16_caltech101.py
# Result: not trained (paper: harmonic mean 79.97 over eleven sets)
#   python tools/test.py configs/lathadapter/promptsrc_vit-b16_caltech101.py CHECKPOINT
# Training has 16 shots of the base classes and ends with their accuracy; the test is of the new
# ones. Data: data/caltech-101 with CoOp's split file (another set: HYPER_MM_SET=dtd before the
# command); see docs/lathadapter.md.
_base_ = [
    '../_base_/models/clip_vit-b16_prompted.py',
    '../_base_/datasets/coop_few_shot.py',
    '../_base_/schedules/sgd_prompts.py',
]
model = dict(
    prompts=dict(type='IVLP', num_context=4, num_image=4, depth=9, image_depth=9),
    consistency=dict(text=25.0, image=10.0, logits=1.0),
)
optim_wrapper = dict(optimizer=dict(lr=0.0025))
param_scheduler = [
    dict(type='ConstantLR', factor=1e-5 / 0.0025, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=20, eta_min=0.0, by_epoch=True, begin=1, end=10000),
]
train_cfg = dict(max_epochs=20, val_interval=20)
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.DatasetVocabularyHook'),
    dict(type='hyper_mm.PromptAveragingHook', mean=15.0, std=1.0),
]
