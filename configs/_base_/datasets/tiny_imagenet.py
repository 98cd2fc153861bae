# Tiny ImageNet's classes at 64x64 (160 of them, 50 + 10 images each) in ImageNet folders
_base_ = 'folders_64.py'
data_root = '{{$HYPER_MM_DATA:data}}/tiny_imagenet'
data_preprocessor = dict(num_classes=160)
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
