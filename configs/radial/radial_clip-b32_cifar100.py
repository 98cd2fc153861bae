# Zero-shot classification of CIFAR-100, before and after tuning by radial_clip-b32_hierarcaps.py.
#   python tools/test.py configs/radial/radial_clip-b32_cifar100.py CHECKPOINT
# Result: not tested
# Data: data/cifar100 (mmpretrain downloads it). The classes are the data set's.
_base_ = [
    '../_base_/models/radial_clip.py',
    '../_base_/datasets/cifar_zero_shot.py',
    '../_base_/default_runtime_radial.py',
]
custom_hooks = [dict(type='hyper_mm.DatasetVocabularyHook')]
