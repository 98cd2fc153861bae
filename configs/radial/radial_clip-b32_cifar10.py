# Zero-shot classification of CIFAR-10, before and after tuning by radial_clip-b32_hierarcaps.py.
#   python tools/test.py configs/radial/radial_clip-b32_cifar10.py CHECKPOINT
# Result: not tested
# Data: data/cifar10 (mmpretrain downloads it). The classes are the data set's.
_base_ = 'radial_clip-b32_cifar100.py'
test_dataloader = dict(dataset=dict(type='CIFAR10', data_root='data/cifar10'))
