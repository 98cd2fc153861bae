# Hi-Mapper, DeiT-T + UPerNet on ADE20K.
#   python tools/train.py configs/himapper/himapper_deit-t_ade20k.py
# Result: not trained (paper: 39.8 mIoU; without Hi-Mapper 37.8)
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations.
_base_ = 'deit-t_ade20k.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    backbone=dict(output_cls_token=True),
    neck=dict(type='hyper_mm.HiMapper', in_channels=192),
)
