# Frozen ConvNeXt-L image tower with HyperCLIP in the text tower, Mask2Former's head on COCO panoptic.
#   python tools/train.py configs/hyperclip/hyperclip_convnext-l_coco-panoptic.py
# Result: not trained
# Data: data/coco with panoptic annotations. 8 GPUs x 2 images, 368,750 iterations.
_base_ = './clip_convnext-l_coco-panoptic.py'
model = dict(
    backbone=dict(
        # a ConvNeXt has no attention layers to adapt
        adapter=dict(
            type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01, towers=('text',)
        ),
        text=dict(chunk=64, checkpoint=True),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone.clip': dict(lr_mult=0.075)}))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
    dict(type='hyper_mm.TrainedWeightsHook'),
    dict(type='hyper_mm.MergeAdaptersHook'),
]
