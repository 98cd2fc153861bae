# AdamW for 400 iterations from pretrained weights: the backbone learns at a quarter of the rate
_base_ = './adamw_400.py'
optim_wrapper = dict(
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        component_lr_mult=1.0,
        custom_keys={'backbone': dict(lr_mult=0.25)},
    ),
)
