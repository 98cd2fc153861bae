# HyperCLIP, CLIP ViT-L/14@336 on COCO-Stuff-164k; adapters in q, k, v of all blocks of both towers (the official code leaves vision blocks 11 to 22, counted from 0, without, by oversight).
#   python tools/train.py configs/hyperclip/hyperclip_vit-l14_coco-stuff164k.py
# Result: not trained (paper: 0.9 above CAT-Seg on the mean of the six sets)
# Data: data/coco_stuff164k (as mmseg prepares it). 4 GPUs x 1 image, 80k iterations.
_base_ = 'cat-seg_vit-l14_coco-stuff164k.py'
model = dict(
    finetune='frozen',
    adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'clip': dict(lr_mult=0.075)}))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
    dict(type='hyper_mm.HyperbolicRadiusHook', interval=500),
    dict(type='hyper_mm.MergeAdaptersHook'),
]
