# A miniature LorentzViT (4 layers, 128 wide) on Tiny ImageNet: vit-mini_tiny-imagenet.py is its
# twin of equal width and depth.
#   python tools/train.py configs/lorentz_vit/lorentz-vit-mini_tiny-imagenet.py
# Data: data/tiny_imagenet (ImageNet folders, 160 classes, 8000 + 1600 images of 64x64, enlarged).
# 16 epochs, not trained here; 6 with patches of 32: docs/tables/lorentz_vit_tiny-imagenet.md.
_base_ = '../himapper/vit-mini_tiny-imagenet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='hyper_mm.LorentzViT',
        arch=dict(embed_dims=128, num_layers=4, num_heads=4),
        img_size=128,
        patch_size=16,
        positions='learnt',  # as the twin's
    ),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'norm': dict(decay_mult=0.0),
            '.tau': dict(decay_mult=0.0),
            '.res': dict(decay_mult=0.0),
        }
    ),
)
