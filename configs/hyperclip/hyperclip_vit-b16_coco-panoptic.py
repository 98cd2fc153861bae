# HyperCLIP in both towers of CLIP ViT-B/16, Mask2Former's head on COCO panoptic.
#   python tools/train.py configs/hyperclip/hyperclip_vit-b16_coco-panoptic.py
# Result: not trained (paper: ADE20K PQ 29.2)
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
        clip=dict(model='ViT-B-16-quickgelu', pretrained='openai'),
        adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01),
        text=dict(chunk=64, checkpoint=True),
    ),
    neck=dict(type='hyper_mm.SimpleFeaturePyramid', in_channels=768, out_channels=256, num_outs=4),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone.clip': dict(lr_mult=0.075)}))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
    dict(type='hyper_mm.TrainedWeightsHook'),
    dict(type='hyper_mm.HyperbolicRadiusHook', interval=500),
    dict(type='hyper_mm.MergeAdaptersHook'),
]
# the last block gives the features of regions, of which training sees nothing
find_unused_parameters = True
