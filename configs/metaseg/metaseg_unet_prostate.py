# Boundary-oriented episodic learning of a small U-Net (FedDG without the federation): a step on the images must help with the same images in the contrast of another site.
#   python tools/train.py configs/metaseg/metaseg_unet_prostate.py
# Result: not trained
# Before it:
#   cd data/prostate; python ../../tools/dataset_converters/amplitude_bank.py BMC=BMC/images I2CVB=I2CVB/images UCL=UCL/images BIDMC=BIDMC/images HK=HK/images -o ../../work_dirs/prostate_amplitudes.npz; cd ../..
# Data: data/prostate (layout: _base_/datasets/prostate_sites.py). 20000 iterations of 5 images.
_base_ = './unet_prostate.py'
model = dict(
    _delete_=True,
    type='hyper_mm.EpisodicSegmentor',
    model=_base_.model,
    inner_lr=1e-3,
    clip=100.0,
    boundary=dict(temperature=0.05, loss_weight=0.1),
)
bank = 'work_dirs/prostate_amplitudes.npz'
train_dataloader = dict(
    batch_size=5,
    dataset=dict(
        pipeline=[
            *_base_.augment,
            # the banks are those of the images as they are: low frequencies survive the resizing
            dict(type='hyper_mm.FrequencyAmplitudeMix', bank=bank, band=0.01),
            dict(type='hyper_mm.PackEpisodicSegInputs', meta_keys=_base_.meta_keys),
        ]
    ),
)
