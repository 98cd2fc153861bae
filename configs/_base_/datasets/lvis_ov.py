# LVIS v1, open vocabulary: trained on the 866 frequent and common classes, tested on all 1203, of
# which the 337 rare ones are novel. The user's annotation file gives the names and the training set:
#   python tools/dataset_converters/lvis_base.py data/lvis_v1/annotations/lvis_v1_train.json
# Data set and metric of mmdet need the package lvis:
#   pip install git+https://github.com/lvis-dataset/lvis-api.git
_base_ = './coco_instance.py'
dataset_type = 'LVISV1Dataset'
data_root = '{{$HYPER_MM_DATA:data}}/lvis_v1/'
names = data_root + 'annotations/lvis_v1_names.txt'
base_names = data_root + 'annotations/lvis_v1_base_names.txt'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=1e-3,
        dataset=dict(
            type=dataset_type,
            data_root=data_root,
            ann_file='annotations/lvis_v1_train_norare.json',
            data_prefix=dict(img=''),
            metainfo=dict(classes=base_names),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline={{_base_.train_pipeline}},
        ),
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/lvis_v1_val.json',
        data_prefix=dict(img=''),
    )
)
test_dataloader = val_dataloader
# APr are the novel classes
val_evaluator = dict(type='LVISMetric', ann_file=data_root + 'annotations/lvis_v1_val.json')
test_evaluator = val_evaluator
