# CAT-Seg (CVPR 2024 version) with ViT-B/16: the query and value projections of both towers of CLIP
# are trained, with a cost aggregation head. Without a network: --cfg-options model.clip.pretrained=
# Official weights, CLIP's included: tools/model_converters/cat_seg2mm.py writes a checkpoint for
# tools/test.py, or for --cfg-options load_from=cat_seg.pth model.clip.pretrained=
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.3231630],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(384, 384),
)
model = dict(
    type='hyper_mm.OpenVocabSegmentor',
    data_preprocessor=data_preprocessor,
    clip=dict(model='ViT-B-16-quickgelu', pretrained='openai', image_size=384),
    finetune='qv',
    vocabulary='coco-stuff171',  # of predictions: another name, or a file with one class a line
    train_vocabulary='coco-stuff171',
    decode_head=dict(
        type='hyper_mm.CostAggregationHead',
        in_channels=768,
        guidance_channels=(256, 128),
        aggregator=dict(text_dim=512, appearance_dim=512),
        ignore='zero',
    ),
    text=dict(chunk=64, checkpoint=True),
    train_cfg=dict(),
    test_cfg=dict(mode='slide_global', size=640, window=384, stride=256),
)
