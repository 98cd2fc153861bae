# Hi-Mapper, DeiT-T + UPerNet on CamVid from random weights.
#   python tools/train.py configs/himapper/himapper_deit-t_camvid.py
# Result: 22.47 ± 0.89 mIoU, seeds 0 1 2 (docs/tables/camvid.md)
# Data: data/camvid (ADE20K layout, 367 + 101 images of 240x180). 400 iterations of 8 images. 3 to 4
# minutes on 2 cores.
_base_ = 'deit-t_camvid.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    backbone=dict(output_cls_token=True),
    neck=dict(type='hyper_mm.HiMapper', in_channels=192),
)
