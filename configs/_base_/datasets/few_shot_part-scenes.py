# PartScenes, one of 12 things in each picture, split anew: 80 training pictures of each class, to
# draw the shots from, and 48 test pictures
#   python tools/dataset_converters/part_scenes.py data/part_scenes_shots --formats imagenet \
#       --num-train 1920 --num-val 480 --size 64 64
_base_ = 'few_shot_64.py'
data_root = '{{$HYPER_MM_DATA:data}}/part_scenes_shots/imagenet/train'
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
