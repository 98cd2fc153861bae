# Names of classes and superclasses of a BREEDS subset, retrieved for ImageNet images.
#   python tools/test.py configs/radial/radial_clip-b32_breeds.py CHECKPOINT
# Data: configs/_base_/datasets/breeds_names.py; test_dataloader.dataset.subset is 'living17' or
# 'nonliving26', 'entity13', 'entity30'. Expected (paper, L/14, its protocol is not published):
# R@5 .61 before tuning and .65 after. Not tested here.
_base_ = [
    '../_base_/models/radial_clip.py',
    '../_base_/datasets/breeds_names.py',
    '../_base_/default_runtime_radial.py',
]
