# LiteCLIP, frozen, with a small Mask2Former on 80 images of COCO panoptic; 11 of 133 classes are unseen.
#   python tools/train.py configs/hyperclip/lite-clip_coco128-panoptic.py
# Result: PQ 6.56 (7.20 of seen, 3.33 of unseen names), one seed (docs/open_vocab_detection.md)
# Data: data/coco128_panoptic. 1000 iterations of 4 images.
_base_ = [
    '../_base_/models/open-vocab_mask2former.py',
    '../_base_/datasets/coco128_panoptic.py',
    '../_base_/schedules/adamw_mask2former.py',
    '../_base_/default_runtime_open_vocab_panoptic.py',
]
dim = 64
attention = dict(embed_dims=dim, num_heads=4)
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(type='hyper_mm.CLIPBackbone', clip=dict(model='lite-clip-b0')),
    vocabulary='coco-panoptic133',
    train_vocabulary=dict(
        _delete_=True,
        names='coco-panoptic133',
        without=[
            'airplane',
            'bus',
            'dog',
            'umbrella',
            'knife',
            'cup',
            'sandwich',
            'cake',
            'road',
            'grass',
            'food',
        ],
    ),
    panoptic_head=dict(
        in_channels=[24, 40, 112, 320],
        feat_channels=dim,
        out_channels=dim,
        embed_dims=1280,
        # LiteCLIP's cosines are flatter than CLIP's
        temperature=0.03,
        num_things_classes=72,
        num_stuff_classes=50,
        num_queries=50,
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=8),
            encoder=dict(
                num_layers=2,
                layer_cfg=dict(
                    self_attn_cfg=attention,
                    ffn_cfg=dict(embed_dims=dim, feedforward_channels=256),
                ),
            ),
            positional_encoding=dict(num_feats=dim // 2),
        ),
        positional_encoding=dict(num_feats=dim // 2),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=dim, feedforward_channels=256),
            ),
        ),
    ),
    panoptic_fusion_head=dict(ensemble=dict(temperature=0.04)),
    train_cfg=dict(num_points=2048),
)
max_iters = 1000
optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', power=0.9, by_epoch=False, begin=20, end=max_iters, eta_min=1e-6),
]
train_cfg = dict(max_iters=max_iters, val_interval=200)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=200))
