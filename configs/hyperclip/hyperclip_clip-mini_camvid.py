# HyperCLIP in a small random CLIP with CAT-Seg's head on CamVid; its baseline is clip-mini_camvid.py.
#   python tools/train.py configs/hyperclip/hyperclip_clip-mini_camvid.py
# Result: 11.48 ± 2.29 mIoU after 120 iterations, random towers, seeds 0 1 2 (docs/tables/hyperclip_camvid.md)
# Data: data/camvid (or where HYPER_MM_DATA says). 250 iterations of 4 images. Random towers: it
# shows that everything runs, not what CLIP can do.
_base_ = 'clip-mini_camvid.py'
model = dict(adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=64, curvature=0.01))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
    dict(type='hyper_mm.HyperbolicRadiusHook', interval=100),
    dict(type='hyper_mm.MergeAdaptersHook'),
]
