# Plain training of a small U-Net, the baseline of metaseg_unet_prostate.py
#   python tools/train.py configs/metaseg/unet_prostate.py
# Result: not trained
# Data: data/prostate (layout: _base_/datasets/prostate_sites.py), five sites, tested on the sixth.
# 20000 iterations of 15 images: the gradient budget of the method, whose step is three backward
# passes of 5.
_base_ = [
    '../_base_/models/fcn_unet-small.py',
    '../_base_/datasets/prostate_sites.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_meta_20k.py',
]
model = dict(_base_.segmentor)
train_dataloader = dict(batch_size=15)
