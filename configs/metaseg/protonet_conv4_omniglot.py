# Prototypes of characters (ProtoNet) by four convolutions, tested on an alphabet of its own
#   python tools/train.py configs/metaseg/protonet_conv4_omniglot.py
# Result: 78.3 ± 0.2 % of 5 characters with an image each, 120 batches, seeds 0 1 2; hyperbolic 87.6 ± 0.4 (docs/tables/few_shot_omniglot.md)
#   python tools/test.py configs/metaseg/protonet_conv4_omniglot.py CHECKPOINT
# Hyperbolic: --cfg-options model.model.head.classifier.distance=lorentz. Five images of each class:
# train_dataloader.dataset.k_shot=5 test_dataloader.dataset.k_shot=5. Data: see
# _base_/datasets/omniglot_episodes.py. 1000 batches of 4 tasks.
_base_ = [
    '../_base_/datasets/omniglot_episodes.py',
    '../_base_/schedules/adam_few_shot.py',
    '../_base_/default_runtime_mmpretrain.py',
]
model = dict(
    type='hyper_mm.PrototypicalClassifier',
    model=dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=_base_.data_preprocessor,
        backbone=dict(type='hyper_mm.ConvBlocks'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='hyper_mm.PrototypicalClsHead', classifier=dict(distance='sqeuclidean', scale=1.0)
        ),
    ),
)
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=1000),
)
log_processor = dict(by_epoch=False)
