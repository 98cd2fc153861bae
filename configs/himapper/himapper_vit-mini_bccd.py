# Hi-Mapper, the miniature ViT, Faster R-CNN on BCCD (mode B: the module stays, as a neck).
#   python tools/train.py configs/himapper/himapper_vit-mini_bccd.py --cfg-options load_from=CKPT
# Result: 29.27 ± 2.27 box AP50, seeds 0 1 2 (docs/tables/miniature.md)
# Data: data/bccd. 3 epochs of 205 images from a checkpoint of himapper_vit-mini_tiny-
# imagenet_finetune.py, module included.
_base_ = 'vit-mini_bccd.py'
model = dict(
    type='hyper_mm.FasterRCNN',
    neck=dict(
        _delete_=True,
        type='hyper_mm.HiMapper',
        in_channels=128,
        num_leaves=16,
        num_levels=3,
        width=64,
        num_heads=2,
        hyp_dim=64,
        neck=_base_.model.neck,
    ),
)
