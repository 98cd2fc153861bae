# LiteCLIP (two packages of PyPI: hyper_mm.lite_clip) as an open-vocabulary segmentor that is not
# trained. A config names the vocabulary.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size_divisor=32,
)
model = dict(
    type='hyper_mm.OpenVocabSegmentor',
    data_preprocessor=data_preprocessor,
    clip=dict(model='lite-clip-b0'),
    decode_head=dict(type='hyper_mm.TextSimilarityHead'),
    test_cfg=dict(mode='whole'),
)
