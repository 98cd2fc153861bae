# default_runtime.py for open-vocabulary segmentors: pictures, comparisons and test-time augmentation
# go by the names of the model's vocabulary
_base_ = 'default_runtime.py'
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.VocabularyHook'),
]
tta_model = dict(type='hyper_mm.OpenVocabTTAModel')
