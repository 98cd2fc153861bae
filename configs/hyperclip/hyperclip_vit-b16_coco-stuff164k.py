# HyperCLIP, CLIP ViT-B/16 on COCO-Stuff-164k; adapters in q, k, v of all blocks of both towers.
#   python tools/train.py configs/hyperclip/hyperclip_vit-b16_coco-stuff164k.py
# Result: not trained (paper: A-847 12.3, PC-459 19.2, A-150 32.1)
#   python tools/analysis_tools/open_vocab_table.py CONFIG CHECKPOINT
# Data: data/coco_stuff164k, as mmseg prepares it. 4 GPUs x 1 image, 80k iterations.
_base_ = 'cat-seg_vit-b16_coco-stuff164k.py'
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
