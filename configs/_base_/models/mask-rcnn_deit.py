# Mask R-CNN on a plain DeiT with a simple feature pyramid; widths are those of DeiT-S
_base_ = 'mask-rcnn.py'
model = dict(
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='featmap',
        drop_path_rate=0.1,
    ),
    neck=dict(type='hyper_mm.SimpleFeaturePyramid', in_channels=384, out_channels=256, num_outs=5),
)
