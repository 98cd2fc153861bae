# CAT-Seg, CLIP ViT-L/14@336 on COCO-Stuff-164k: the twin of hyperclip_vit-l14_coco-stuff164k.py.
#   python tools/train.py configs/hyperclip/cat-seg_vit-l14_coco-stuff164k.py
# Data: data/coco_stuff164k (as mmseg prepares it). 4 GPUs x 1 image, 80k iterations.
# Expected (A-847, PC-459, A-150, PC-59, PAS-20, PAS-20b): 16.0 23.8 37.9 63.3 97.0 82.5 in its
# README, of its own implementation. Not trained here.
_base_ = 'cat-seg_vit-b16_coco-stuff164k.py'
model = dict(
    clip=dict(model='ViT-L-14-336-quickgelu', image_size=336),
    decode_head=dict(in_channels=1024, aggregator=dict(text_dim=768, appearance_dim=768)),
)
