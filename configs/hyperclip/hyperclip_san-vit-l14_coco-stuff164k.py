# SAN (mmseg's) with HyperCLIP's adapter in the vision tower, CLIP ViT-L/14, COCO-Stuff-164k.
#   python tools/train.py configs/hyperclip/hyperclip_san-vit-l14_coco-stuff164k.py
# Result: not trained
# Data: data/coco_stuff164k (as mmseg prepares it). Its baseline is the stock config below.
_base_ = 'mmseg::san/san-vit-l14_coco-stuff164k-640x640.py'
model = dict(
    type='hyper_mm.MultimodalEncoderDecoder',
    adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=128, freeze=False),
)
