# The miniature ViT, fine-tuned on Tiny ImageNet: the baseline of himapper_vit-mini_tiny-imagenet_finetune.py.
#   python tools/train.py configs/himapper/vit-mini_tiny-imagenet_finetune.py --cfg-options load_from=CKPT
# Result: 10.44 ± 0.12 % top-1, seeds 0 1 2 (docs/tables/miniature.md)
# Data: data/tiny_imagenet. 2 epochs from a checkpoint of vit-mini_tiny-imagenet.py.
_base_ = 'vit-mini_tiny-imagenet.py'
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=2,
        T_max=2,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
