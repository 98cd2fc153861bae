# PromptKD on a small CLIP, on nine superclasses of ImageNet: all training images, without labels.
#   python tools/train.py configs/lathadapter/promptkd_clip-mini_imagenet-coarse.py
# Result: 8.33 ± 2.02 % top-1, its teacher with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/promptkd_clip-mini_imagenet-coarse.py CHECKPOINT
# Data: data/imagenet_sample and data/imagenet_coarse.json; CLIP:
# tools/experiments/pretrain_tiny_clip.py.
_base_ = [
    '../_base_/models/promptkd_clip-mini.py',
    '../_base_/datasets/few_shot_imagenet-coarse.py',
]
train_dataloader = dict(drop_last=True, dataset=dict(shots=None))
