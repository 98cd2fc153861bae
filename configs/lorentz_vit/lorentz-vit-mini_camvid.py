# A miniature LorentzViT + UPerNet on CamVid: vit-mini_camvid.py is its baseline of equal width and depth.
#   python tools/train.py configs/lorentz_vit/lorentz-vit-mini_camvid.py
# Result: 16.34 ± 0.09 mIoU, seeds 0 1 2 (docs/tables/lorentz_vit_camvid.md)
# Data: data/camvid. 200 iterations of 8 images, from random weights or, with --cfg-options
# load_from=CKPT, a checkpoint of lorentz-vit-mini_tiny-imagenet.py.
_base_ = '../himapper/vit-mini_camvid.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='hyper_mm.LorentzViT',
        arch=dict(embed_dims=128, num_layers=4, num_heads=4),
        img_size=160,
        patch_size=16,
        positions='learned',  # as the baseline's
        out_type='featmap',
        out_indices=[0, 1, 2, 3],
    ),
)
