# himapper-tree_deit-t_part-scenes.py trained on the 48 parts instead of the 19 wholes.
#   python tools/train.py configs/himapper/himapper-tree_deit-t_part-scenes_parts.py
# Result: leaf purity 0.638 (k-means 0.610), seeds 0 1 (docs/tables/purity.md)
#   python tools/test.py configs/himapper/himapper-tree_deit-t_part-scenes_parts.py CHECKPOINT
# Data: data/part_scenes/ade. 8 minutes on one core.
_base_ = 'himapper-tree_deit-t_part-scenes.py'
common = dict(type='FCNHead', in_channels=192, num_classes=48, concat_input=False)
loss = dict(type='CrossEntropyLoss', use_sigmoid=False)
word = dict(
    channels=192,
    num_convs=0,
    dropout_ratio=0.0,
    align_corners=False,
    norm_cfg=None,
    loss_decode=dict(loss_weight=0.25, **loss),
    **common,
)
model = dict(
    decode_head=dict(num_classes=48),
    auxiliary_head=[
        dict(
            in_index=3,
            channels=64,
            num_convs=1,
            dropout_ratio=0.1,
            align_corners=False,
            norm_cfg=dict(type='BN', requires_grad=True),
            loss_decode=dict(loss_weight=0.4, **loss),
            **common,
        ),
        dict(in_index=4, **word),
        dict(in_index=5, **word),
        dict(in_index=6, **word),
        dict(in_index=7, **word),
    ],
)
parts = 'hyper_mm.PartScenesDataset'
train_dataloader = dict(
    dataset=dict(type=parts, data_prefix=dict(seg_map_path='annotations/training'))
)
val_dataloader = dict(
    dataset=dict(type=parts, data_prefix=dict(seg_map_path='annotations/validation'))
)
