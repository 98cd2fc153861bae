# A miniature ViT, Mask R-CNN on PartScenes from random weights: the baseline of himapper_vit-mini_part-scenes_det.py.
#   python tools/train.py configs/himapper/vit-mini_part-scenes_det.py
# Result: not trained
# Before it:
#   python tools/dataset_converters/part_scenes.py data/part_scenes --formats coco --size 128 128
# Data: data/part_scenes/coco, generated in seconds: 3 epochs.
_base_ = 'vit-mini_coco-mini.py'
dataset_type = 'hyper_mm.PartScenesDetDataset'
data_root = '{{$HYPER_MM_DATA:data}}/part_scenes/coco/'
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=12), mask_head=dict(num_classes=12)),
)
train_pipeline = _base_.train_pipeline
train_pipeline[2]['scale'] = (128, 128)
test_pipeline = _base_.test_pipeline
test_pipeline[1]['scale'] = (128, 128)
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
