# Boundary-oriented episodic learning of a small U-Net: a step on the images must help with the same images in the colors of another site.
#   python tools/train.py configs/metaseg/metaseg_unet_nuclei.py
# Result: not trained
# Before it:
#   I=images/train; cd data/nuclei; python ../../tools/dataset_converters/amplitude_bank.py fluorescence=fluorescence/$I stained_light=stained_light/$I brightfield=brightfield/$I --size 256 --crop 128 -o ../../work_dirs/nuclei_amplitudes.npz; cd ../..
# Data: data/nuclei (or where HYPER_MM_DATA says). 1000 iterations of 5 images.
_base_ = [
    '../_base_/models/fcn_unet-small.py',
    '../_base_/models/episodic_segmentor.py',
    '../_base_/datasets/nuclei_sites.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_meta_small.py',
]
model = dict(model=_base_.segmentor, **_base_.episodic)
bank = 'work_dirs/nuclei_amplitudes.npz'
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            *_base_.augment,
            dict(bank=bank, **_base_.style_mix),
            dict(meta_keys=_base_.meta_keys, **_base_.pack_episode),
        ]
    )
)
