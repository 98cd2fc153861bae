# HyperCLIP on the 20 frequent classes; its baseline is clip-mini_coco133_frequent.py.
#   python tools/train.py configs/hyperclip/hyperclip_clip-mini_coco133_frequent.py
# Result: 1.17 ± 0.28 mIoU, random towers, seeds 0 1 2 (docs/tables/hyperclip_coco133.md)
# Data: data/coco133_sem (or where HYPER_MM_DATA says). 120 iterations of 4 images. Random towers:
# it shows that everything runs, not what CLIP can do.
_base_ = 'clip-mini_coco133_frequent.py'
model = dict(adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=64, curvature=0.01))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
    dict(type='hyper_mm.HyperbolicRadiusHook', interval=100),
    dict(type='hyper_mm.MergeAdaptersHook'),
]
