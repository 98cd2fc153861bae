# Hi-Mapper, DeiT-T + UPerNet on ADE20K.
#   python tools/train.py configs/himapper/himapper_deit-t_ade20k.py
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations.
# Expected: 39.8 mIoU in the paper's table (twin: 37.8). Not trained here.
_base_ = 'deit-t_ade20k.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    backbone=dict(output_cls_token=True),
    neck=dict(type='hyper_mm.HiMapper', in_channels=192),
)
