# Hi-Mapper, EfficientNet-B4 on ImageNet-1k.
#   python tools/train.py configs/himapper/himapper_efficientnet-b4_imagenet.py
# Result: not trained (paper: 84.1 % top-1; without Hi-Mapper 82.9)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning.
_base_ = 'efficientnet-b4_imagenet.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    neck=dict(_delete_=True, type='hyper_mm.HiMapperPooling', in_channels=1792),
)
