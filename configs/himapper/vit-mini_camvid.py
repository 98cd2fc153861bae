# The miniature ViT + UPerNet on CamVid: the baseline of himapper_vit-mini_camvid.py.
#   python tools/train.py configs/himapper/vit-mini_camvid.py --cfg-options load_from=CKPT
# Result: 16.77 ± 0.47 mIoU from vit-mini_tiny-imagenet.py, seeds 0 1 2 (docs/tables/miniature.md)
# Data: data/camvid. 200 iterations of 8 images from a checkpoint of (himapper_)vit-mini_tiny-
# imagenet(_finetune).py.
_base_ = 'deit-t_camvid.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=160,
        patch_size=16,
        out_type='featmap',
        out_indices=[0, 1, 2, 3],
    ),
    decode_head=dict(in_channels=[128, 128, 128, 128], channels=64),
    auxiliary_head=dict(in_channels=128, channels=32),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.5)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=20, end=200, by_epoch=False),
]
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200, max_keep_ckpts=2))
train_dataloader = dict(num_workers=1)
val_dataloader = dict(num_workers=1)
test_dataloader = val_dataloader
