# A miniature ViT, Mask R-CNN on a subset of COCO from random weights: the baseline of himapper_vit-mini_coco-mini.py.
#   python tools/train.py configs/himapper/vit-mini_coco-mini.py
# Result: box and mask AP 0.0: shows that masks train and test, not that they are learned
# Data: data/coco_mini (80 + 79 images of COCO 2017, long side 320, in its layout). 3 epochs.
_base_ = [
    '../_base_/models/mask-rcnn_deit.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_det_small.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512
        ),
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=128, out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=1, in_channels=64, conv_out_channels=64),
    ),
)
data_root = '{{$HYPER_MM_DATA:data}}/coco_mini/'
train_pipeline = _base_.train_pipeline
train_pipeline[2]['scale'] = (320, 320)
test_pipeline = _base_.test_pipeline
test_pipeline[1]['scale'] = (320, 320)
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=10))
