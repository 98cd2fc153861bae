# Hi-Mapper, DeiT-B (distilled) on ImageNet-1k.
#   python tools/train.py configs/himapper/himapper_deit-b-distilled_imagenet.py
# Result: not trained (no published figure)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning. Class and
# distillation token are enriched each by itself.
_base_ = 'deit-b-distilled_imagenet.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=768, num_prefix_tokens=2),
)
