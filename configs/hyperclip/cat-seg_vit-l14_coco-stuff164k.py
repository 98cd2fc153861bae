# CAT-Seg, CLIP ViT-L/14@336 on COCO-Stuff-164k: the baseline of hyperclip_vit-l14_coco-stuff164k.py.
#   python tools/train.py configs/hyperclip/cat-seg_vit-l14_coco-stuff164k.py
# Result: not trained (CAT-Seg's README: A-847 16.0, PC-459 23.8, A-150 37.9, PC-59 63.3, PAS-20 97.0, PAS-20b 82.5)
# Data: data/coco_stuff164k (as mmseg prepares it). 4 GPUs x 1 image, 80k iterations.
_base_ = 'cat-seg_vit-b16_coco-stuff164k.py'
model = dict(
    clip=dict(model='ViT-L-14-336-quickgelu', image_size=336),
    decode_head=dict(in_channels=1024, aggregator=dict(text_dim=768, appearance_dim=768)),
)
