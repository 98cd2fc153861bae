# HyperCLIP in a small random CLIP on 133 classes of COCO; its baseline is clip-mini_coco133.py.
#   python tools/train.py configs/hyperclip/hyperclip_clip-mini_coco133.py
# Result: 0.1 mIoU after 60 iterations, random towers (docs/tables/hyperclip_coco133.md)
# Data: data/coco133_sem (or where HYPER_MM_DATA says). 120 iterations of 4 images. The towers are
# random: it shows that everything runs, not what CLIP can do.
_base_ = 'clip-mini_coco133.py'
model = dict(adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=64, curvature=0.01))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
    dict(type='hyper_mm.HyperbolicRadiusHook', interval=100),
    dict(type='hyper_mm.MergeAdaptersHook'),
]
