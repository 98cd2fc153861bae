# Hi-Mapper, the miniature ViT + UPerNet on CamVid (mode B: the module stays, as a neck).
#   python tools/train.py configs/himapper/himapper_vit-mini_camvid.py --cfg-options load_from=CKPT
# Result: not trained
# Data: data/camvid. 200 iterations of 8 images from a checkpoint of himapper_vit-mini_tiny-
# imagenet_finetune.py, module included.
_base_ = ['./vit-mini_camvid.py', '../_base_/models/himapper_vit-mini.py']
model = dict(
    type='hyper_mm.EncoderDecoder', neck=dict(type='hyper_mm.HiMapper', **_base_.himapper_mini)
)
