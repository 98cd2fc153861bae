# Hi-Mapper, the miniature ViT fine-tuned on Tiny ImageNet; half as wide, with half the leaves.
#   python tools/train.py configs/himapper/himapper_vit-mini_tiny-imagenet_finetune.py --cfg-options load_from=CKPT
# Result: 10.33 ± 0.16 % top-1, seeds 0 1 2 (docs/tables/miniature.md)
# Data: data/tiny_imagenet. 2 epochs from a checkpoint of vit-mini_tiny-imagenet.py.
_base_ = 'vit-mini_tiny-imagenet_finetune.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(
        type='hyper_mm.HiMapperPooling',
        in_channels=128,
        num_prefix_tokens=1,
        num_leaves=16,
        num_levels=3,
        width=64,
        num_heads=2,
        hyp_dim=64,
        zero_init_out=True,
    ),
)
