# HELM-D, 1 B parameters: a shape of our own (heads as at 115 M); the paper has none.
#   bash tools/dist_train.sh configs/helm-d_1b.py 4
#   python tools/train.py configs/helm-d_1b.py (one GPU: a quarter of the batch)
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3).
# Not trained here.
_base_ = 'helm-d_115m.py'
# 4 GPUs x 1 sequence of 2,048 tokens x 256 accumulated
optim_wrapper = dict(accumulative_counts=256)
train_dataloader = dict(batch_size=1)
val_dataloader = dict(batch_size=1)
test_dataloader = dict(batch_size=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=72 * 256, by_epoch=False),
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.1, begin=72 * 256, end=2400 * 256, by_epoch=False
    ),
]
train_cfg = dict(max_iters=2400 * 256, val_interval=2400 * 256)
model = dict(
    decoder=dict(
        dims=1559,
        depth=16,
        attention=dict(num_heads=24),
        ffn=dict(hidden_dims=6239),
    )
)
