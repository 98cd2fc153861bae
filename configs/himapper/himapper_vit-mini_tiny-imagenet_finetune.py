# Hi-Mapper, the miniature ViT fine-tuned on Tiny ImageNet; half as wide, with half the leaves.
#   python tools/train.py configs/himapper/himapper_vit-mini_tiny-imagenet_finetune.py --cfg-options load_from=CKPT
# Result: not trained
# Data: data/tiny_imagenet. 2 epochs from a checkpoint of vit-mini_tiny-imagenet.py.
_base_ = ['./vit-mini_tiny-imagenet_finetune.py', '../_base_/models/himapper_vit-mini.py']
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(
        type='hyper_mm.HiMapperPooling',
        num_prefix_tokens=1,
        zero_init_out=True,
        **_base_.himapper_mini,
    ),
)
