# Radial embeddings: the text tower of CLIP ViT-B/32, tuned on HierarCaps.
#   python tools/train.py configs/radial/radial_clip-b32_hierarcaps.py
# Result: not trained
# Data: configs/_base_/datasets/hierarcaps.py. One epoch of 73k chains in batches of 8. What tuning
# must not cost is tested by radial_clip-b32_{coco,cifar10,cifar100}.py.
_base_ = [
    '../_base_/models/radial_clip.py',
    '../_base_/datasets/hierarcaps.py',
    '../_base_/schedules/radial_1e.py',
    '../_base_/default_runtime_radial.py',
]
