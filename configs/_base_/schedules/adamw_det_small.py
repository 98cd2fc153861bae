# Small detectors: AdamW 5e-4 with a warm-up and a cosine by iterations
_base_ = 'adamw_1x_coco.py'
max_epochs = 3
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    clip_grad=dict(max_norm=5.0),
    # components come from the checkpoint of the backbone, or are as new as it: one learning rate
    paramwise_cfg=dict(component_lr_mult=1.0),
)
