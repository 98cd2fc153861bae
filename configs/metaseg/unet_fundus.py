# Plain training of a small U-Net, the baseline of metaseg_unet_fundus.py
#   python tools/train.py configs/metaseg/unet_fundus.py
# Result: not trained
# Data: data/fundus (layout: _base_/datasets/fundus_sites.py), three sites, tested on the fourth.
# 20000 iterations of 15 images: the gradient budget of the method, whose step is three backward
# passes of 5.
_base_ = [
    '../_base_/models/fcn_unet-small.py',
    '../_base_/datasets/fundus_sites.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_meta_20k.py',
]
# FedDG has a sigmoid each for disc and cup; here the disc is the sum of rim and cup
model = dict(_base_.segmentor)
model['decode_head'].update(
    num_classes=3,
    loss_decode=dict(type='hyper_mm.BatchDiceLoss', structures=[*_base_.structures.values()]),
)
train_dataloader = dict(batch_size=15)
