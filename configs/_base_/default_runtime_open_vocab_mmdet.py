# default_runtime_mmdet.py for open-vocabulary detectors: pictures and comparisons go by the names of
# the model's vocabulary, and checkpoints leave the frozen weights out
_base_ = 'default_runtime_mmdet.py'
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
    dict(type='hyper_mm.TrainedWeightsHook'),
]
