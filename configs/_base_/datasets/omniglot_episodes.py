# Characters of Omniglot in episodes of 5 classes with 1 image each to learn from; characters of
# other alphabets in the test. In the folders that its converter writes:
#   python tools/dataset_converters/omniglot.py images_background_small1.zip data/omniglot_few_shot --held-out val=Greek test=Korean --rotations --size 28
data_root = '{{$HYPER_MM_DATA:data}}/omniglot_few_shot'
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.PackInputs'),
]
characters = dict(type='mmpretrain.CustomDataset', data_root=data_root, pipeline=pipeline)
episodes = dict(type='hyper_mm.EpisodeDataset', n_way=5, k_shot=1)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        episodes, n_query=5, num_episodes=100000, dataset=dict(characters, data_prefix='train')
    ),
)
evaluation = dict(episodes, n_query=15, num_episodes=100, pipeline=pipeline)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(evaluation, dataset=dict(characters, data_prefix='val')),
)
test_dataloader = dict(
    val_dataloader, dataset=dict(evaluation, dataset=dict(characters, data_prefix='test'))
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_evaluator = val_evaluator
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='hyper_mm.FewShotEvalLoop', seeds=[0, 1, 2])
