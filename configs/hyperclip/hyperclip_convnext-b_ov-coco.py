# Frozen ConvNeXt-B image tower with HyperCLIP in the text tower, an open-vocabulary Mask R-CNN on OV-COCO.
#   python tools/train.py configs/hyperclip/hyperclip_convnext-b_ov-coco.py
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
        type='hyper_mm.CLIPBackbone',
        clip=dict(model='convnext_base_w', pretrained='laion2b_s13b_b82k_augreg'),
        # a ConvNeXt has no attention layers to adapt
        adapter=dict(
            type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01, towers=('text',)
        ),
    ),
    neck=dict(type='FPN', in_channels=[128, 256, 512, 1024], out_channels=256, num_outs=5),
    roi_head=dict(bbox_head=dict(embed_dims=640)),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone.clip': dict(lr_mult=0.075)}))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
    dict(type='hyper_mm.TrainedWeightsHook'),
    dict(type='hyper_mm.MergeAdaptersHook'),
]
