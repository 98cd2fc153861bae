# Hi-Mapper, a small DeiT + UPerNet on PartScenes from random weights: what `make demo` runs.
#   python tools/train.py configs/himapper_deit-t_part-scenes.py
# Data: data/part_scenes/ade, generated in seconds (see _base_/datasets/part_scenes.py).
# 400 iterations of 16 images, an estimated 3 minutes on 2 idle CPU cores. Expected: 40 mIoU (one
# run with seed unset, on 320 + 60 images; the best constant guess has under 2).
_base_ = 'deit-t_part-scenes.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    backbone=dict(output_cls_token=True),
    neck=dict(type='hyper_mm.HiMapper', in_channels=192),
)
