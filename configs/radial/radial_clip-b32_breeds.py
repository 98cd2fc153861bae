# Names of classes and superclasses of a BREEDS subset, retrieved for ImageNet images.
#   python tools/test.py configs/radial/radial_clip-b32_breeds.py CHECKPOINT
# Result: not tested (paper, ViT-L/14: R@5 0.61 before tuning, 0.65 after)
# Data: configs/_base_/datasets/breeds_names.py; test_dataloader.dataset.subset is 'living17' or
# 'nonliving26', 'entity13', 'entity30'.
_base_ = [
    '../_base_/models/radial_clip.py',
    '../_base_/datasets/breeds_names.py',
    '../_base_/default_runtime_radial.py',
]
