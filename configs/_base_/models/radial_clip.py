# CLIP ViT-B/32 whose text tower learns radial embeddings
model = dict(
    type='hyper_mm.RadialCLIP',
    truncate=True,  # a few captions have more than 77 tokens
    clip=dict(model='ViT-B-32-quickgelu', pretrained='openai'),
    loss=dict(
        type='hyper_mm.RadialEmbeddingLoss',
        lambda_reg=10.0,
        lambda_mean=1.0,
        lambda_hard=1.0,
        geometry='euclidean',
    ),
)
