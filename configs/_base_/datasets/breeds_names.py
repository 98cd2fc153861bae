# ImageNet images with the names of class and superclass in a BREEDS subset. Of ImageNet itself take
# data_root='data/imagenet', data_prefix='val' and the hierarchy's files in data/imagenet/hierarchy
test_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='hyper_mm.BreedsNamesDataset',
        subset='living17',
        template='a photo of a {}',
        data_root='{{$HYPER_MM_DATA:data}}/imagenet_sample',
        data_prefix='images',
        hierarchy_root='hierarchy/modified',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=224, edge='short', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=224),
            dict(type='hyper_mm.PackTexts'),
        ],
    ),
)
test_evaluator = [
    dict(type='hyper_mm.HierarchicalRecall', topk=(1, 5)),
    dict(type='hyper_mm.HierarchicalRecall', prefix='breeds_mean', topk=(1, 5), hit='mean'),
]
test_cfg = dict(type='TestLoop')
