# Frozen CLIP ViT-B/16 as an open-vocabulary Mask R-CNN on OV-COCO: baseline of hyperclip_vit-b16_ov-coco.py.
#   python tools/train.py configs/hyperclip/clip_vit-b16_ov-coco.py
# Result: not trained
# Data: data/coco with the files of mmdet's coco2ovd.py. 8 GPUs x 2 images, 12 epochs.
_base_ = [
    '../_base_/models/open-vocab_mask-rcnn.py',
    '../_base_/datasets/ov_coco.py',
    '../_base_/schedules/adamw_1x_coco.py',
    '../_base_/default_runtime_open_vocab_mmdet.py',
]
model = dict(
    backbone=dict(
        type='hyper_mm.CLIPBackbone', clip=dict(model='ViT-B-16-quickgelu', pretrained='openai')
    ),
    neck=dict(type='hyper_mm.SimpleFeaturePyramid', in_channels=768, out_channels=256, num_outs=5),
)
