# Hi-Mapper, a small DeiT-T on the things of PartScenes from random weights.
#   python tools/train.py configs/himapper/himapper_deit-t_part-scenes_cls.py
# Result: 22.9 ± 1.0 % top-1 with model.neck.recipe=recommended, seeds 0 1 2 (docs/tables/classification.md)
# Data: data/part_scenes/imagenet, generated in seconds (see _base_/datasets/part_scenes_cls.py). 10
# epochs.
_base_ = 'deit-t_part-scenes_cls.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=192, num_prefix_tokens=1),
)
