# EfficientNet-Lite0 with a Lorentz classifier of 16 dimensions and hierarchical softmax over BREEDS' upper levels, on Tiny ImageNet.
#   python tools/train.py configs/hyperbolic/lorentz-mlr_efficientnet-lite0_tiny-imagenet.py
# Result: not trained
# The baseline is ../efficientnet_lite/efficientnet-lite0_tiny-imagenet.py.
_base_ = '../efficientnet_lite/efficientnet-lite0_tiny-imagenet.py'
model = dict(
    head=dict(
        type='hyper_mm.LinearClsHead',
        classifier=dict(type='LorentzMLR', embed_dims=16, max_radius=6.0),
        taxonomy=dict(file='tiny_imagenet', loss='softmax'),
    )
)
val_evaluator = [
    dict(type='Accuracy', topk=(1, 5)),
    dict(type='hyper_mm.TaxonomyMetric', taxonomy='tiny_imagenet'),
]
test_evaluator = val_evaluator
