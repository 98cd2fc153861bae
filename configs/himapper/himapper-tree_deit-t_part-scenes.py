# Hi-Mapper whose tree learns parts and wholes; himapper_deit-t_part-scenes.py in everything else.
#   python tools/train.py configs/himapper/himapper-tree_deit-t_part-scenes.py
# Result: 41.7 mIoU, leaf purity 0.631 (k-means 0.611), seeds 0 1 (docs/tables/purity.md)
#   python tools/test.py configs/himapper/himapper-tree_deit-t_part-scenes.py CHECKPOINT  # HierarchyPurity
# Data: data/part_scenes/ade; trained on 19 wholes, the hierarchy is scored on their 48 parts. 6
# minutes on one core.
_base_ = 'himapper_deit-t_part-scenes.py'
word = dict(
    type='FCNHead',
    in_channels=192,
    channels=192,
    num_convs=0,
    concat_input=False,
    dropout_ratio=0.0,
    num_classes=19,
    align_corners=False,
    norm_cfg=None,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.25),
)
model = dict(
    neck=dict(
        type='hyper_mm.HiMapperTree',
        level=1,
        keep_hierarchy=True,
        num_heads=1,
        cross_scale=5.0,
        competition=True,
        tree=dict(probabilistic=False),
        loss=dict(contrastive=0.0, balance=1.0, containment=0.1),
    ),
    auxiliary_head=[
        {{_base_.model.auxiliary_head}},
        dict(in_index=4, **word),
        dict(in_index=5, **word),
        dict(in_index=6, **word),
        dict(in_index=7, **word),
    ],
)
test_dataloader = dict(
    dataset=dict(
        type='hyper_mm.PartScenesDataset',
        data_prefix=dict(seg_map_path='annotations/validation'),
    )
)
test_evaluator = dict(_delete_=True, type='hyper_mm.HierarchyPurity')
