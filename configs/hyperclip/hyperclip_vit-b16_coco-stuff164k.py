# HyperCLIP, CLIP ViT-B/16 on COCO-Stuff-164k; adapters in q, k, v of all blocks of both towers.
#   python tools/train.py configs/hyperclip/hyperclip_vit-b16_coco-stuff164k.py
# Data: data/coco_stuff164k, as mmseg prepares it. 4 GPUs x 1 image, 80k iterations. Six sets:
#   python tools/analysis_tools/open_vocab_table.py CONFIG CHECKPOINT
# Expected (A-847, PC-459, A-150): 12.3 19.2 32.1 in the paper. Not trained here.
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
