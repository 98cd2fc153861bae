# Reptile of a small U-Net over the sites of nuclei; its plain baseline is joint_unet_nuclei.py
#   python tools/train.py configs/metaseg/reptile_unet_nuclei.py
# Result: not trained
#   python tools/test.py configs/metaseg/reptile_unet_nuclei.py CHECKPOINT
# Data: data/nuclei (or where HYPER_MM_DATA says). 1000 iterations of 4 tasks, each 5 images of one
# site and 5 others of it; tested on 5 of the site left out.
_base_ = [
    '../_base_/models/fcn_unet-small.py',
    '../_base_/datasets/nuclei_episodes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_meta_small.py',
]
model = dict(
    type='hyper_mm.MetaLearner',
    model=_base_.segmentor,
    algorithm='reptile',
    inner_lr=0.01,
    inner_steps=5,
)
# the rate is Reptile's epsilon
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.5))
test_cfg = dict(type='hyper_mm.FewShotEvalLoop', seeds=[0, 1, 2, 3, 4])
