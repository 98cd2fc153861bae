# The test images of coco133.py at 512 pixels, as they are
dataset_type = 'hyper_mm.VocabularySegDataset'
data_root = '{{$HYPER_MM_DATA:data}}/coco133_sem'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 384), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        vocabulary='coco133',
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='hyper_mm.OVIoUMetric')
