# A miniature LorentzViT (4 layers, 128 wide) on Tiny ImageNet: vit-mini_tiny-imagenet.py is its baseline of equal width and depth.
#   python tools/train.py configs/lorentz_vit/lorentz-vit-mini_tiny-imagenet.py
# Result: not trained (6 epochs, patches of 32: 5.31 ± 0.23 % top-1, docs/tables/lorentz_vit_tiny-imagenet.md)
# Data: data/tiny_imagenet (ImageNet folders, 160 classes, 8000 + 1600 images of 64x64, enlarged).
# 16 epochs.
_base_ = '../himapper/vit-mini_tiny-imagenet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='hyper_mm.LorentzViT',
        arch=dict(embed_dims=128, num_layers=4, num_heads=4),
        img_size=128,
        patch_size=16,
        positions='learned',  # as the baseline's
    ),
)
