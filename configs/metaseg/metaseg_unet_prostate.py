# Boundary-oriented episodic learning of a small U-Net (FedDG without the federation): a step on the images must help with the same images in the contrast of another site.
#   python tools/train.py configs/metaseg/metaseg_unet_prostate.py
# Result: not trained
# Before it:
#   cd data/prostate; python ../../tools/dataset_converters/amplitude_bank.py BMC=BMC/images I2CVB=I2CVB/images UCL=UCL/images BIDMC=BIDMC/images HK=HK/images -o ../../work_dirs/prostate_amplitudes.npz; cd ../..
# Data: data/prostate (layout: _base_/datasets/prostate_sites.py). 20000 iterations of 5 images.
_base_ = ['./unet_prostate.py', '../_base_/models/episodic_segmentor.py']
model = dict(_delete_=True, model=_base_.model, **_base_.episodic)
bank = 'work_dirs/prostate_amplitudes.npz'
train_dataloader = dict(
    batch_size=5,
    dataset=dict(
        pipeline=[
            *_base_.augment,
            dict(bank=bank, **_base_.style_mix),
            dict(meta_keys=_base_.meta_keys, **_base_.pack_episode),
        ]
    ),
)
