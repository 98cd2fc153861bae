# Plain training of a small U-Net, the baseline of metaseg_unet_fundus-vessel.py
#   python tools/train.py configs/metaseg/unet_fundus-vessel.py
# Result: not trained
# Data: data/fundus_vessel (or where HYPER_MM_DATA says). 1000 iterations of 15 images: the gradient
# budget of the method, whose step is three backward passes of 5.
_base_ = [
    '../_base_/models/fcn_unet-small.py',
    '../_base_/datasets/fundus_vessel_sites.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_meta_small.py',
]
model = dict(_base_.segmentor)
train_dataloader = dict(batch_size=15)
