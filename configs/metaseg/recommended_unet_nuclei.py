# Plain training of a small U-Net, each image in an appearance of its own (hyper_mm.RandomStyle), to be adapted by tools/adapt.py: what helps on another modality, see docs/tables/metaseg.md
#   python tools/train.py configs/metaseg/recommended_unet_nuclei.py
# Result: not trained
# Data: data/nuclei (or where HYPER_MM_DATA says). 1000 iterations of 15 images, as in
# unet_nuclei.py, which is the same without the appearances.
_base_ = './unet_nuclei.py'
style = dict(type='hyper_mm.RandomStyle', prob=0.8)
train_dataloader = dict(
    dataset=dict(
        pipeline=[*_base_.augment, style, dict(type='PackSegInputs', meta_keys=_base_.meta_keys)]
    ),
)
