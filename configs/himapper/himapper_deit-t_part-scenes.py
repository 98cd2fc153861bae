# Hi-Mapper, a small DeiT + UPerNet on PartScenes from random weights: what `make demo` runs.
#   python tools/train.py configs/himapper/himapper_deit-t_part-scenes.py
# Result: 39.3 mIoU, seed 0, 400 + 40 images of 96x96 (`make demo`)
# Data: data/part_scenes/ade, generated in seconds (see _base_/datasets/part_scenes.py). 400
# iterations of 16 images, 4 minutes on 2 CPU cores. The best constant guess has 1.7 mIoU.
_base_ = 'deit-t_part-scenes.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    backbone=dict(output_cls_token=True),
    neck=dict(type='hyper_mm.HiMapper', in_channels=192),
)
