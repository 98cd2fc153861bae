# Boundary-oriented episodic learning of a small U-Net. There is one training site: the other style comes from the unlabelled images of the test site, so this is no generalisation to unseen sites.
#   python tools/train.py configs/metaseg/metaseg_unet_fundus-vessel.py
# Result: not trained
# Before it:
#   python tools/dataset_converters/amplitude_bank.py drive=data/fundus_vessel/drive/images chasedb1=data/fundus_vessel/chasedb1/images -o work_dirs/fundus_vessel_amplitudes.npz
# Data: data/fundus_vessel (or where HYPER_MM_DATA says). 1000 iterations of 5 images.
_base_ = [
    '../_base_/models/fcn_unet-small.py',
    '../_base_/datasets/fundus_vessel_sites.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_meta_small.py',
]
model = dict(
    type='hyper_mm.EpisodicSegmentor',
    model=_base_.segmentor,
    inner_lr=1e-3,
    clip=100.0,
    boundary=dict(temperature=0.05, loss_weight=0.1),
)
bank = 'work_dirs/fundus_vessel_amplitudes.npz'
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            *_base_.augment,
            dict(type='hyper_mm.FrequencyAmplitudeMix', bank=bank, band=0.01),
            dict(type='hyper_mm.PackEpisodicSegInputs', meta_keys=_base_.meta_keys),
        ]
    )
)
