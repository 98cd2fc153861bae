# LiteCLIP without training: open-vocabulary segmentation of 133 classes of COCO by their names.
#   python tools/test.py configs/lite_clip/lite-clip-b0_coco133.py none
# Result: 10.43 mIoU without training, 104 classes of 133 present (docs/lite_clip.md)
# Data: data/coco133_sem (or where HYPER_MM_DATA says). Not trained: 'none' is the checkpoint. The
# image tower has seen ImageNet's classes with labels, and no label map.
_base_ = [
    '../_base_/models/lite-clip.py',
    '../_base_/datasets/coco133_test_512.py',
    '../_base_/default_runtime_open_vocab.py',
    '../_base_/schedules/test_only.py',
]
model = dict(vocabulary='coco133')
unseen = [  # of the one that is trained, cat-seg_lite-clip-b0_coco133.py; here all are
    'traffic light',
    'cow',
    'frisbee',
    'bottle',
    'orange',
    'bed',
    'oven',
    'toothbrush',
    'fruit',
    'river',
    'wall brick',
    'sky',
    'building',
]
test_evaluator = dict(unseen_classes=unseen)
