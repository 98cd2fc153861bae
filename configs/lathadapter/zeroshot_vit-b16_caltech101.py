# CLIP ViT-B/16 as it is, by the names of the classes in CoOp's template of the set: base and new classes of Caltech101, and their harmonic mean (another set: HYPER_MM_SET=dtd before the command).
#   python tools/test.py configs/lathadapter/zeroshot_vit-b16_caltech101.py none
# Result: not tested
# Data: data/caltech-101 with CoOp's split file; see docs/lathadapter.md.
_base_ = [
    '../_base_/models/clip_vit-b16_prompted.py',
    '../_base_/datasets/coop_base_new.py',
    '../_base_/default_runtime_mmpretrain.py',
]
test_cfg = dict()
custom_hooks = [dict(type='hyper_mm.DatasetVocabularyHook', template=True)]
