# A network and a transform of MONAI in a config of OpenMMLab: BasicUNet on nuclei, with MONAI's bias field as augmentation
#   python tools/train.py configs/metaseg/monai-unet_nuclei.py
# Result: not trained
# Needs MONAI (pip install monai). Data: data/nuclei (or where HYPER_MM_DATA says). 1000 iterations of
# 15 images, the budget of unet_nuclei.py.
_base_ = './unet_nuclei.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='hyper_mm.MonaiBackbone',
        net='BasicUNet',
        spatial_dims=2,
        in_channels=3,
        out_channels=16,
        features=(16, 32, 64, 128, 256, 16),
    ),
    decode_head=dict(in_index=0),
)
bias = dict(type='hyper_mm.MonaiTransform', name='RandBiasFieldd', keys=['img'], prob=0.5)
train_dataloader = dict(
    dataset=dict(
        pipeline=[*_base_.augment, bias, dict(type='PackSegInputs', meta_keys=_base_.meta_keys)]
    )
)
