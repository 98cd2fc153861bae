# Hi-Mapper, DeiT-B + UPerNet on ADE20K.
#   python tools/train.py configs/himapper/himapper_deit-b_ade20k.py
# Result: not trained (no published figure)
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations.
_base_ = 'deit-b_ade20k.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    backbone=dict(output_cls_token=True),
    neck=dict(type='hyper_mm.HiMapper', in_channels=768),
)
