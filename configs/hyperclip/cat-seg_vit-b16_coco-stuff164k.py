# CAT-Seg, CLIP ViT-B/16 on COCO-Stuff-164k: the baseline of hyperclip_vit-b16_coco-stuff164k.py.
#   python tools/train.py configs/hyperclip/cat-seg_vit-b16_coco-stuff164k.py
# Result: not trained (CAT-Seg's README: A-847 12.0, PC-459 19.0, A-150 31.8, PC-59 57.5, PAS-20 94.6, PAS-20b 77.3)
#   python tools/analysis_tools/open_vocab_table.py CONFIG CHECKPOINT
# Data: data/coco_stuff164k, as mmseg prepares it. 4 GPUs x 1 image, 80k iterations.
_base_ = [
    '../_base_/models/cat-seg.py',
    '../_base_/datasets/coco_stuff164k_384.py',
    '../_base_/default_runtime_open_vocab.py',
    '../_base_/schedules/adamw_80k_clip.py',
]
default_hooks = dict(checkpoint=dict(interval=10000))
