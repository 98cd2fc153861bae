# HyperCLIP in both towers of CLIP ViT-B/16, an open-vocabulary Mask R-CNN on LVIS (1203 names, the rare ones novel).
#   python tools/train.py configs/hyperclip/hyperclip_vit-b16_ov-lvis.py
# Result: not trained
# Data: data/lvis_v1 with the files of tools/dataset_converters/lvis_base.py; needs the package lvis. 8 GPUs x 2 images, 12 epochs.
# A step encodes 866 names by the text tower, 64 at a time, whose activations are computed again: memory of 64 names, and 1.3e12
# multiply-accumulates, about two forward passes of the image tower (0.7e12 for 1333 x 800), whatever the batch.
_base_ = './clip_vit-b16_ov-lvis.py'
model = dict(
    backbone=dict(
        adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01),
        text=dict(chunk=64, checkpoint=True),
    )
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
