# EfficientNet-Lite0 + a light FCN head with a Lorentz classifier of 16 dimensions, and a label tree, on CamVid.
#   python tools/train.py configs/hyperbolic/lorentz-mlr_efficientnet-lite0_camvid.py
# Result: not trained
# The baseline is ../efficientnet_lite/efficientnet-lite0_camvid.py. The tree (taxonomy) has HieraSeg's losses: the
# consistent binary cross-entropy of all nodes, and triplets. Scores by the tree are printed beside mIoU.
_base_ = '../efficientnet_lite/efficientnet-lite0_camvid.py'
model = dict(
    decode_head=dict(
        type='hyper_mm.FCNHead',
        classifier=dict(type='LorentzMLR', embed_dims=16, max_radius=6.0),
        taxonomy=dict(file='camvid', loss='tree_min', triplet=0.2),
    )
)
val_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='hyper_mm.TaxonomyMetric', taxonomy='camvid'),
]
test_evaluator = val_evaluator
