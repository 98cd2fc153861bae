# A small random CLIP with a cost aggregation head, for images of about 160 pixels
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.3231630],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(160, 160),
)
model = dict(
    type='hyper_mm.OpenVocabSegmentor',
    data_preprocessor=data_preprocessor,
    clip=dict(
        model=dict(
            embed_dim=128,
            quick_gelu=True,
            vision_cfg=dict(image_size=160, layers=6, width=192, head_width=64, patch_size=16),
            text_cfg=dict(context_length=77, vocab_size=49408, width=128, heads=2, layers=4),
        )
    ),
    finetune='frozen',
    decode_head=dict(
        type='hyper_mm.CostAggregationHead',
        in_channels=192,
        guidance_channels=(64, 32),
        aggregator=dict(
            text_dim=128,
            appearance_dim=128,
            dim=64,
            projected_dim=32,
            decoder_dims=(32, 16),
            decoder_guidance_dims=(16, 8),
            window=5,
            pad_len=16,
        ),
        ignore='mask',  # classes that are held out are not told to be nothing
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide_global', size=240, window=160, stride=80),
)
