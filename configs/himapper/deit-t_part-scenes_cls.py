# A small DeiT-T on the things of PartScenes from random weights: the baseline of himapper_deit-t_part-scenes_cls.py.
#   python tools/train.py configs/himapper/deit-t_part-scenes_cls.py
# Result: 22.2 ± 2.7 % top-1, seeds 0 1 2 (docs/tables/classification.md)
# Data: data/part_scenes/imagenet, generated in seconds (see _base_/datasets/part_scenes_cls.py). 10
# epochs.
_base_ = [
    '../_base_/models/vit_cls_small.py',
    '../_base_/datasets/part_scenes_cls.py',
    '../_base_/schedules/adamw_cls_small.py',
]
model = dict(
    head=dict(num_classes=12),
)
train_cfg = dict(max_epochs=10, val_interval=10)
