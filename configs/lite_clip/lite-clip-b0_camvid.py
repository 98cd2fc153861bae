# LiteCLIP without training: open-vocabulary segmentation of CamVid by the names of its 11 classes.
#   python tools/test.py configs/lite_clip/lite-clip-b0_camvid.py none
# Result: 11.77 mIoU without training (docs/lite_clip.md)
# Data: data/camvid (240x180, enlarged to 640x480). Not trained: 'none' is the checkpoint. The image
# tower has seen ImageNet's classes with labels, and no label map.
_base_ = [
    '../_base_/models/lite-clip.py',
    '../_base_/datasets/camvid_test_640.py',
    '../_base_/default_runtime_open_vocab.py',
    '../_base_/schedules/test_only.py',
]
classes = [  # the order of the labels
    'sky',
    'building',
    'pole',
    'road',
    'pavement',
    'tree',
    'sign',
    'fence',
    'car',
    'pedestrian',
    'bicyclist',
]
model = dict(vocabulary=classes)
