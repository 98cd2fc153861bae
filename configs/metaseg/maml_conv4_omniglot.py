# MAML of four convolutions on characters, tested on an alphabet of its own
#   python tools/train.py configs/metaseg/maml_conv4_omniglot.py
# Result: not trained
#   python tools/test.py configs/metaseg/maml_conv4_omniglot.py CHECKPOINT
# First order: --cfg-options model.algorithm=fomaml. As published the batch norms see the images of
# the whole query (norms='batch'); here they keep to the support. Data: see
# _base_/datasets/omniglot_episodes.py. 1000 batches of 4 tasks.
_base_ = './protonet_conv4_omniglot.py'
model = dict(
    _delete_=True,
    type='hyper_mm.MetaLearner',
    algorithm='maml',
    inner_lr=0.1,
    inner_steps=3,
    test_steps=5,
    norms='task',
    model=dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=_base_.data_preprocessor,
        backbone=dict(type='hyper_mm.ConvBlocks'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64),
    ),
)
