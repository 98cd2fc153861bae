# HyperCLIP in a small random CLIP with CAT-Seg's head on CamVid: the twin of clip-mini_camvid.py.
#   python tools/train.py configs/hyperclip/hyperclip_clip-mini_camvid.py
# Data: data/camvid (or where HYPER_MM_DATA says). 250 iterations of 4 images. Random towers: it
# shows that everything runs, not what CLIP can do. Expected: docs/tables/hyperclip_camvid.md.
_base_ = 'clip-mini_camvid.py'
model = dict(adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=64, curvature=0.01))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
    dict(type='hyper_mm.HyperbolicRadiusHook', interval=100),
    dict(type='hyper_mm.MergeAdaptersHook'),
]
