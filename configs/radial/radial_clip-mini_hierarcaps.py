# Radial embeddings in a small random text tower, on the chains that come with the test set.
#   python tools/train.py configs/radial/radial_clip-mini_hierarcaps.py
# Result: tau_d 0.909 ± 0.028, HyperLex rho 0.069 ± 0.040, seeds 0 1 2 (docs/tables/radial.md)
# Data: data/hierarcaps and data/hyperlex (or below HYPER_MM_DATA): the expanded chains but those of
# the test images, 21k. The towers are random, so there is nothing to preserve (lambda_reg=0) and
# nothing to retrieve: read tau_d beside tau_d_words, and HyperLex. 2 minutes on one core.
_base_ = [
    '../_base_/datasets/hierarcaps.py',
    '../_base_/schedules/radial_1e.py',
    '../_base_/default_runtime_radial.py',
]
model = dict(
    type='hyper_mm.RadialCLIP',
    truncate=True,  # a few captions have more than 77 tokens
    clip=dict(
        model=dict(
            embed_dim=128,
            quick_gelu=True,
            vision_cfg=dict(image_size=32, layers=1, width=64, head_width=32, patch_size=16),
            text_cfg=dict(context_length=77, vocab_size=49408, width=128, heads=2, layers=4),
        )
    ),
    loss=dict(type='hyper_mm.RadialEmbeddingLoss', lambda_reg=0.0),
)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        ann_file='hierarcaps_test_expanded.csv.gz', exclude_images_of='hierarcaps_test.csv'
    ),
)
val_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='hyper_mm.HierarCapsDataset',
                data_root='{{$HYPER_MM_DATA:data}}/hierarcaps',
                ann_file='hierarcaps_test.csv',
                mode='test',
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='Resize', scale=(32, 32), interpolation='bicubic'),
                    dict(type='hyper_mm.PackTexts'),
                ],
            ),
            dict(
                type='hyper_mm.HyperLexDataset',
                data_root='{{$HYPER_MM_DATA:data}}/hyperlex',
                ann_file='hyperlex-all.txt',
                pipeline=[dict(type='hyper_mm.PackTexts')],
            ),
        ]
    )
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=200, val_interval=200, val_begin=1
)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(by_epoch=False, interval=200))
log_processor = dict(by_epoch=False)
