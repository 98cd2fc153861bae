# Hi-Mapper, ResNet-50 on ImageNet-1k.
#   python tools/train.py configs/himapper/himapper_resnet-50_imagenet.py
# Result: not trained (paper: 78.2 % top-1; without Hi-Mapper 76.2)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning.
_base_ = 'resnet-50_imagenet.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    neck=dict(_delete_=True, type='hyper_mm.HiMapperPooling', in_channels=2048),
)
