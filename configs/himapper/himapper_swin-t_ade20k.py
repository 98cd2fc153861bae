# Hi-Mapper, Swin-T + UPerNet on ADE20K.
#   python tools/train.py configs/himapper/himapper_swin-t_ade20k.py
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations.
# Expected: 46.8 mIoU in the paper's table (twin: 44.5). Not trained here.
_base_ = 'swin-t_ade20k.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    neck=dict(type='hyper_mm.HiMapper', in_channels=[96, 192, 384, 768]),
)
