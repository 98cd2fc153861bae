# Deep prompts of LiteCLIP's text tower on 160 classes of Tiny ImageNet: 16 shots.
#   python tools/train.py configs/lathadapter/coop_lite-clip-b0_tiny-imagenet.py
# Result: not trained (docs/tables/lathadapter_lite.md has a study of 40 of its classes)
#   python tools/test.py configs/lathadapter/coop_lite-clip-b0_tiny-imagenet.py CHECKPOINT
# Data: data/tiny_imagenet (or where HYPER_MM_DATA says). No weights are downloaded. The image tower
# has seen these classes with labels.
_base_ = [
    '../_base_/models/lite-clip_prompted.py',
    '../_base_/datasets/few_shot_tiny-imagenet.py',
]
data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
