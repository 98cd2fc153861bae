# CIFAR-100's test images, to be classified by the names of the classes alone
test_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='CIFAR100',
        data_root='data/cifar100',
        split='test',
        test_mode=True,
        pipeline=[
            dict(type='NumpyToPIL', to_rgb=False),
            dict(type='PILToNumpy', to_bgr=True),  # mmpretrain loads CIFAR as RGB, all else as BGR
            dict(type='Resize', scale=(224, 224), interpolation='bicubic'),
            dict(type='PackInputs'),
        ],
    ),
)
test_evaluator = dict(type='Accuracy', topk=(1, 5))
test_cfg = dict(type='TestLoop')
