# The hierarchy of himapper_deit-t_camvid.py, scored on the parts of ADE20K's street scenes.
#   python tools/train.py configs/himapper/himapper_deit-t_camvid_ade20k-parts.py
# Result: docs/tables/purity.md
#   python tools/test.py configs/himapper/himapper_deit-t_camvid_ade20k-parts.py CHECKPOINT
# Data: data/ade20k_full_sample/ADE20K_2021_17_01 (or where HYPER_MM_DATA says): three images.
_base_ = ['himapper_deit-t_camvid.py', '../_base_/datasets/ade20k_parts.py']
model = dict(neck=dict(keep_hierarchy=True), test_cfg=dict(_delete_=True, mode='whole'))
test_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path='images/ADE/training', seg_map_path='images/ADE/training'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(320, 240), keep_ratio=True),
            *_base_.load_parts,
        ],
        **_base_.parts,
    )
)
test_evaluator = dict(_delete_=True, **_base_.purity)
