# Boundary-oriented episodic learning of a small U-Net. There is one training site: the other style comes from the unlabeled images of the test site, so this is no generalization to unseen sites.
#   python tools/train.py configs/metaseg/metaseg_unet_fundus-vessel.py
# Result: not trained
# Before it:
#   python tools/dataset_converters/amplitude_bank.py drive=data/fundus_vessel/drive/images chasedb1=data/fundus_vessel/chasedb1/images -o work_dirs/fundus_vessel_amplitudes.npz
# Data: data/fundus_vessel (or where HYPER_MM_DATA says). 1000 iterations of 5 images.
_base_ = [
    '../_base_/models/fcn_unet-small.py',
    '../_base_/models/episodic_segmentor.py',
    '../_base_/datasets/fundus_vessel_sites.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_meta_small.py',
]
model = dict(model=_base_.segmentor, **_base_.episodic)
bank = 'work_dirs/fundus_vessel_amplitudes.npz'
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            *_base_.augment,
            dict(bank=bank, **_base_.style_mix),
            dict(meta_keys=_base_.meta_keys, **_base_.pack_episode),
        ]
    )
)
