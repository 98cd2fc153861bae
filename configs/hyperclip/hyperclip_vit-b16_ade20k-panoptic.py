# HyperCLIP in CLIP ViT-B/16 with Mask2Former's head, trained on COCO panoptic, tested on ADE20K panoptic.
#   python tools/test.py configs/hyperclip/hyperclip_vit-b16_ade20k-panoptic.py CHECKPOINT
# Result: not trained (paper: PQ 29.2)
# Data: data/ADEChallengeData2016 with mmdet's panoptic annotations. 2,000 images, for tests alone.
_base_ = [
    '../_base_/models/open-vocab_mask2former.py',
    '../_base_/datasets/ade20k_panoptic.py',
    '../_base_/default_runtime_open_vocab_panoptic.py',
]
model = dict(
    backbone=dict(
        type='hyper_mm.CLIPBackbone',
        clip=dict(model='ViT-B-16-quickgelu', pretrained='openai'),
        adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01),
    ),
    neck=dict(type='hyper_mm.SimpleFeaturePyramid', in_channels=768, out_channels=256, num_outs=4),
    vocabulary=dict(_delete_=True, names='ade-panoptic150', synonyms='max'),
)
