# Hi-Mapper, the miniature ViT, Faster R-CNN on BCCD (mode B: the module stays, as a neck).
#   python tools/train.py configs/himapper/himapper_vit-mini_bccd.py --cfg-options load_from=CKPT
# Result: not trained
# Data: data/bccd. 3 epochs of 205 images from a checkpoint of himapper_vit-mini_tiny-
# imagenet_finetune.py, module included.
_base_ = ['./vit-mini_bccd.py', '../_base_/models/himapper_vit-mini.py']
model = dict(
    type='hyper_mm.FasterRCNN',
    neck=dict(
        _delete_=True, type='hyper_mm.HiMapper', neck=_base_.model.neck, **_base_.himapper_mini
    ),
)
