# LiteCLIP with HyperCLIP in the text tower, open-vocabulary Faster R-CNN on 80 images of COCO; baseline: lite-clip_coco-mini.py.
#   python tools/train.py configs/hyperclip/hyperclip_lite-clip_coco-mini.py
# Result: AP50 base 4.4 ± 1.1, novel 4.2 ± 0.7, three seeds (docs/open_vocab_detection.md)
# Data and schedule are those of lite-clip_coco-mini.py.
_base_ = './lite-clip_coco-mini.py'
model = dict(
    backbone=dict(
        # a convolutional image tower has no attention layers to adapt
        adapter=dict(
            type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01, towers=('text',)
        ),
        text=dict(checkpoint=False),  # few names
    )
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone.clip': dict(lr_mult=0.075)}))
