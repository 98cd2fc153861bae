# Frozen CLIP ViT-B/16 as an open-vocabulary Mask R-CNN on LVIS: baseline of hyperclip_vit-b16_ov-lvis.py.
#   python tools/train.py configs/hyperclip/clip_vit-b16_ov-lvis.py
# Result: not trained
# Data: data/lvis_v1 with the files of tools/dataset_converters/lvis_base.py; needs the package lvis. 8 GPUs x 2 images, 12 epochs.
_base_ = [
    '../_base_/models/open-vocab_mask-rcnn.py',
    '../_base_/datasets/lvis_ov.py',
    '../_base_/schedules/adamw_1x_coco.py',
    '../_base_/default_runtime_open_vocab_mmdet.py',
]
model = dict(
    backbone=dict(
        type='hyper_mm.CLIPBackbone', clip=dict(model='ViT-B-16-quickgelu', pretrained='openai')
    ),
    neck=dict(type='hyper_mm.SimpleFeaturePyramid', in_channels=768, out_channels=256, num_outs=5),
    vocabulary={{_base_.names}},
    train_vocabulary={{_base_.base_names}},
    # LVIS counts 300 detections of an image: more pairs of a region and a class before suppression
    roi_head=dict(candidates=5000),
    test_cfg=dict(rcnn=dict(max_per_img=300)),
)
