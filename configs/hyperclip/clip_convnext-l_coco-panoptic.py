# Frozen CLIP ConvNeXt-L with Mask2Former's head on COCO panoptic (FC-CLIP's arrangement): the baseline.
#   python tools/train.py configs/hyperclip/clip_convnext-l_coco-panoptic.py
# Result: not trained (FC-CLIP's paper: ADE20K PQ 26.8)
# Data: data/coco with panoptic annotations. 8 GPUs x 2 images, 368,750 iterations.
_base_ = [
    '../_base_/models/open-vocab_mask2former.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/adamw_mask2former.py',
    '../_base_/default_runtime_open_vocab_panoptic.py',
]
model = dict(
    backbone=dict(
        type='hyper_mm.CLIPBackbone',
        clip=dict(model='convnext_large_d_320', pretrained='laion2b_s29b_b131k_ft_soup'),
    ),
    panoptic_head=dict(in_channels=[192, 384, 768, 1536], embed_dims=768),
)
