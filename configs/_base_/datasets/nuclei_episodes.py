# Episodes of one site each: 5 images to learn from and 5 others; tested on the site left out.
_base_ = './nuclei_sites.py'
episodes = dict(type='hyper_mm.EpisodeDataset', by='domain', k_shot=5, n_query=5)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True, num_episodes=100000, dataset=_base_.train_dataloader.dataset, **episodes
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        num_episodes=20,
        dataset=_base_.val_dataloader.dataset,
        pipeline=_base_.test_pipeline,
        allow_single_domain=True,  # the one that was left out
        **episodes,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='hyper_mm.FewShotIoUMetric')
test_evaluator = val_evaluator
