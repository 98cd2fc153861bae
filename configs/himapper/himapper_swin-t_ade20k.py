# Hi-Mapper, Swin-T + UPerNet on ADE20K.
#   python tools/train.py configs/himapper/himapper_swin-t_ade20k.py
# Result: not trained (paper: 46.8 mIoU; without Hi-Mapper 44.5)
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations.
_base_ = 'swin-t_ade20k.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    neck=dict(type='hyper_mm.HiMapper', in_channels=[96, 192, 384, 768]),
)
