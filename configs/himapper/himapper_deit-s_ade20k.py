# Hi-Mapper, DeiT-S + UPerNet on ADE20K.
#   python tools/train.py configs/himapper/himapper_deit-s_ade20k.py
# Result: not trained (paper: 46.3 mIoU; without Hi-Mapper 43.0)
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations.
_base_ = 'deit-s_ade20k.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    backbone=dict(output_cls_token=True),
    neck=dict(type='hyper_mm.HiMapper', in_channels=384),
)
