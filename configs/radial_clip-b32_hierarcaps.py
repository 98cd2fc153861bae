# Radial embeddings: the text tower of CLIP ViT-B/32, tuned on HierarCaps.
#   python tools/train.py configs/radial_clip-b32_hierarcaps.py
# Data: configs/_base_/datasets/hierarcaps.py. One epoch of 73k chains in batches of 8.
# Not trained here.
_base_ = [
    '_base_/datasets/hierarcaps.py',
    '_base_/schedules/radial_1e.py',
    '_base_/default_runtime_radial.py',
]
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
