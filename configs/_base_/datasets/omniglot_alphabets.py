# Omniglot, alphabets as classes, in the folders that its converter writes:
#   python tools/dataset_converters/omniglot.py images_background_small1.zip data/omniglot
_base_ = 'folders_64.py'
data_root = 'data/omniglot'
data_preprocessor = dict(num_classes=5)
# characters are not mirrored, and must not be cut much
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.8, 1.0)),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
# alphabets differ in size: the mean recall beside the accuracy
val_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    dict(type='SingleLabelMetric', items=('recall',)),
]
test_evaluator = val_evaluator
