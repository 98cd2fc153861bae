# PartScenes, one of 12 things in each picture, in the ImageNet folders that its generator writes:
#   python tools/dataset_converters/part_scenes.py data/part_scenes --formats imagenet \
#       --num-train 1920 --num-val 480 --size 64 64
_base_ = 'folders_64.py'
data_root = '{{$HYPER_MM_DATA:data}}/part_scenes/imagenet'
data_preprocessor = dict(num_classes=12)
train_dataloader = dict(batch_size=16, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
