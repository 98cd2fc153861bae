# HyperCLIP in the text tower of CLIP ConvNeXt-L with Mask2Former's head, tested on ADE20K panoptic.
#   python tools/test.py configs/hyperclip/hyperclip_convnext-l_ade20k-panoptic.py CHECKPOINT
# Result: not trained
# Data: data/ADEChallengeData2016 with mmdet's panoptic annotations. 2,000 images, for tests alone.
_base_ = [
    '../_base_/models/open-vocab_mask2former.py',
    '../_base_/datasets/ade20k_panoptic.py',
    '../_base_/default_runtime_open_vocab_panoptic.py',
]
model = dict(
    backbone=dict(
        type='hyper_mm.CLIPBackbone',
        clip=dict(model='convnext_large_d_320', pretrained='laion2b_s29b_b131k_ft_soup'),
        adapter=dict(
            type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01, towers=('text',)
        ),
    ),
    panoptic_head=dict(in_channels=[192, 384, 768, 1536], embed_dims=768),
    vocabulary=dict(_delete_=True, names='ade-panoptic150', synonyms='max'),
)
