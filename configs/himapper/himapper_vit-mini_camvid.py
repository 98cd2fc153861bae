# Hi-Mapper, the miniature ViT + UPerNet on CamVid (mode B: the module stays, as a neck).
#   python tools/train.py configs/himapper/himapper_vit-mini_camvid.py --cfg-options load_from=CKPT
# Result: 16.79 ± 0.18 mIoU, seeds 0 1 2 (docs/tables/miniature.md)
# Data: data/camvid. 200 iterations of 8 images from a checkpoint of himapper_vit-mini_tiny-
# imagenet_finetune.py, module included.
_base_ = 'vit-mini_camvid.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    neck=dict(
        type='hyper_mm.HiMapper',
        in_channels=128,
        num_leaves=16,
        num_levels=3,
        width=64,
        num_heads=2,
        hyp_dim=64,
    ),
)
