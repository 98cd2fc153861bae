# One image of each ImageNet-1k class under the nine superclasses of BREEDS' hierarchy at depth 3
# with at least 32 images each (bird, reptile, instrument, ...), in CoOp's split format:
#   python tools/dataset_converters/breeds_split.py data/imagenet_sample data/imagenet_coarse.json
_base_ = 'few_shot_64.py'
data_root = '{{$HYPER_MM_DATA:data}}/imagenet_sample'
split_json = '{{$HYPER_MM_DATA:data}}/imagenet_coarse.json'
train_dataloader = dict(dataset=dict(data_root=data_root, split_json=split_json))
test_dataloader = dict(dataset=dict(data_root=data_root, split_json=split_json))
