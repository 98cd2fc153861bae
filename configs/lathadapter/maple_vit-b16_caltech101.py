# MaPLe on Caltech101, from base to new classes.
#   python tools/train.py configs/lathadapter/maple_vit-b16_caltech101.py
# Result: not trained (paper: harmonic mean 78.55 over eleven sets)
#   python tools/test.py configs/lathadapter/maple_vit-b16_caltech101.py CHECKPOINT
# Training has 16 shots of the base classes and ends with their accuracy; the test is of the new
# ones. Data: data/caltech-101 with CoOp's split file (another set: HYPER_MM_SET=dtd before the
# command); see docs/lathadapter.md.
_base_ = [
    '../_base_/models/clip_vit-b16_prompted.py',
    '../_base_/datasets/coop_few_shot.py',
    '../_base_/schedules/sgd_prompts.py',
]
model = dict(prompts=dict(type='MaPLe', num_context=2, depth=9, words='a photo of a'))
