# CoOp on Caltech101, from base to new classes.
#   python tools/train.py configs/lathadapter/coop_vit-b16_caltech101.py
# Result: not trained
#   python tools/test.py configs/lathadapter/coop_vit-b16_caltech101.py CHECKPOINT
# Training has 16 shots of the base classes and ends with their accuracy; the test is of the new
# ones. Data: data/caltech-101 with CoOp's split file (another set: HYPER_MM_SET=dtd before the
# command); see docs/lathadapter.md.
_base_ = [
    '../_base_/models/clip_vit-b16_prompted.py',
    '../_base_/datasets/coop_few_shot.py',
    '../_base_/schedules/sgd_prompts.py',
]
model = dict(prompts=dict(type='CoOp', num_context=4, words='a photo of a'))
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = [
    dict(type='ConstantLR', factor=1e-5 / 0.002, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=50, eta_min=0.0, by_epoch=True, begin=1, end=10000),
]
train_cfg = dict(max_epochs=50, val_interval=50)
