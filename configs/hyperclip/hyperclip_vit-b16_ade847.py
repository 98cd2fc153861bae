# HyperCLIP, CLIP ViT-B/16, tested on the open-vocabulary benchmark ade847.
#   python tools/test.py configs/hyperclip/hyperclip_vit-b16_ade847.py CHECKPOINT
# Result: not trained (paper: 12.3 mIoU)
# Trained by python tools/train.py configs/hyperclip/hyperclip_vit-b16_coco-stuff164k.py. Data:
# docs/open_vocabulary.md. All six sets: tools/analysis_tools/open_vocab_table.py.
_base_ = [
    '../_base_/models/cat-seg.py',
    '../_base_/datasets/ade847.py',
    '../_base_/default_runtime_open_vocab.py',
]
model = dict(
    finetune='frozen',
    adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01),
    vocabulary='ade847',
)
test_cfg = dict(type='TestLoop')
custom_hooks = [
    dict(type='hyper_mm.VocabularyHook'),  # pictures with the names of the vocabulary
    dict(type='hyper_mm.MergeAdaptersHook'),  # at the speed of the plain model
]
