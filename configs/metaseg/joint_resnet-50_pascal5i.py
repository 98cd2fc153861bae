# Plain training on the tasks of protonet_resnet-50_pascal5i.py, whose baseline it is: Reptile with one inner step is a step of SGD on the task; tested after 20 steps on the support
#   python tools/train.py configs/metaseg/joint_resnet-50_pascal5i.py
# Result: not trained
#   python tools/test.py configs/metaseg/joint_resnet-50_pascal5i.py CHECKPOINT
# Data: data/VOCdevkit (see _base_/datasets/pascal5i.py). 30000 tasks of two images, as there.
_base_ = './protonet_resnet-50_pascal5i.py'
inner_lr = 1e-3
model = dict(
    _delete_=True,
    type='hyper_mm.MetaLearner',
    algorithm='reptile',
    inner_lr=inner_lr,
    inner_steps=1,
    test_steps=20,
    model=dict(
        type='EncoderDecoder',
        data_preprocessor=_base_.data_preprocessor,
        backbone=_base_.backbone,
        decode_head=dict(
            type='FCNHead',
            in_channels=2048,
            in_index=3,
            channels=512,
            num_convs=1,
            concat_input=False,
            dropout_ratio=0.0,
            num_classes=2,
            norm_cfg=dict(type='GN', num_groups=32),
        ),
        test_cfg=dict(mode='whole'),
    ),
)
# the outer rate times the inner one is that of protonet_resnet-50_pascal5i.py, and so is the decay of the weights
optim_wrapper = dict(optimizer=dict(lr=1.0, weight_decay=5e-4 * inner_lr))
train_dataloader = dict(dataset=dict(k_shot=2))
