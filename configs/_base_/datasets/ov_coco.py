# OV-COCO: 48 base classes to train on, 65 to test. mmdet's coco2ovd.py makes the two files of COCO:
#   python mmdetection/tools/dataset_converters/coco2ovd.py data/coco
_base_ = './coco_instance.py'
base_classes = (
    'person', 'bicycle', 'car', 'motorcycle', 'train', 'truck', 'boat', 'bench', 'bird', 'horse',
    'sheep', 'bear', 'zebra', 'giraffe', 'backpack', 'handbag', 'suitcase', 'frisbee', 'skis',
    'kite', 'surfboard', 'bottle', 'fork', 'spoon', 'bowl', 'banana', 'apple', 'sandwich',
    'orange', 'broccoli', 'carrot', 'pizza', 'donut', 'chair', 'bed', 'toilet', 'tv', 'laptop',
    'mouse', 'remote', 'microwave', 'oven', 'toaster', 'refrigerator', 'book', 'clock', 'vase',
    'toothbrush',
)  # fmt: skip
novel_classes = (
    'airplane', 'bus', 'cat', 'dog', 'cow', 'elephant', 'umbrella', 'tie', 'snowboard',
    'skateboard', 'cup', 'knife', 'cake', 'couch', 'keyboard', 'sink', 'scissors',
)  # fmt: skip
classes = (  # in COCO's order, which is that of the labels
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'bench',
    'bird', 'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe',
    'backpack', 'umbrella', 'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'kite',
    'skateboard', 'surfboard', 'bottle', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana',
    'apple', 'sandwich', 'orange', 'broccoli', 'carrot', 'pizza', 'donut', 'cake', 'chair',
    'couch', 'bed', 'toilet', 'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'microwave', 'oven',
    'toaster', 'sink', 'refrigerator', 'book', 'clock', 'vase', 'scissors', 'toothbrush',
)  # fmt: skip
metainfo = dict(classes=classes, base_classes=base_classes, novel_classes=novel_classes)
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/instances_train2017_seen_2.json',
        metainfo=dict(classes=base_classes),
    )
)
val_dataloader = dict(
    dataset=dict(ann_file='annotations/instances_val2017_all_2.json', metainfo=metainfo)
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='OVCocoMetric',
    ann_file='data/coco/annotations/instances_val2017_all_2.json',
    metric=['bbox'],
)
test_evaluator = val_evaluator
