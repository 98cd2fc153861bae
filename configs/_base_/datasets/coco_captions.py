# COCO's 5k test images of the Karpathy split with their captions, for image-text retrieval
test_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='hyper_mm.CocoCaptionsDataset',
        data_root='data/coco',
        ann_file='annotations/caption_karpathy_test2014.json',
        data_prefix=dict(img_path='val2014'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=224, edge='short', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=224),
            dict(type='hyper_mm.PackTexts'),
        ],
    ),
)
test_evaluator = dict(type='hyper_mm.ImageTextRecall', prefix='coco', topk=(1, 5, 10))
test_cfg = dict(type='TestLoop')
