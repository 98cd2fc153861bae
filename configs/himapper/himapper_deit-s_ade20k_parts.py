# The hierarchy of himapper_deit-s_ade20k.py, scored on the parts of the full ADE20K.
#   python tools/train.py configs/himapper/himapper_deit-s_ade20k_parts.py
# Result: not run
#   python tools/test.py configs/himapper/himapper_deit-s_ade20k_parts.py CHECKPOINT
# Data: data/ade20k_full_sample/ADE20K_2021_17_01 (the folder of the data set's archive).
_base_ = ['himapper_deit-s_ade20k.py', '../_base_/datasets/ade20k_parts.py']
model = dict(neck=dict(keep_hierarchy=True), test_cfg=dict(_delete_=True, mode='whole'))
test_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path='images/ADE/validation', seg_map_path='images/ADE/validation'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2048, 512), keep_ratio=True),
            *_base_.load_parts,
        ],
        **_base_.parts,
    )
)
test_evaluator = dict(_delete_=True, **_base_.purity)
