# Hi-Mapper, DeiT-S + UPerNet on ADE20K.
#   python tools/train.py configs/himapper_deit-s_ade20k.py
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations.
# Expected: 46.3 mIoU in the paper's table (twin: 43.0). Not trained here.
_base_ = 'deit-s_ade20k.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    backbone=dict(output_cls_token=True),
    neck=dict(type='hyper_mm.HiMapper', in_channels=384),
)
