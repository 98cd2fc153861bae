# A small CLIP on Omniglot's five alphabets as it is: by the names of the classes alone.
#   python tools/test.py configs/lathadapter/zeroshot_clip-mini_omniglot.py data/clip_mini.pt
# Result: 29.56 % top-1, without training (docs/tables/lathadapter.md)
# Data: data/omniglot; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = [
    '../_base_/models/clip-mini_prompted.py',
    '../_base_/datasets/few_shot_64_test.py',
    '../_base_/default_runtime_mmpretrain.py',
]
test_cfg = dict()
custom_hooks = [dict(type='hyper_mm.DatasetVocabularyHook')]
test_dataloader = dict(dataset=dict(data_root='{{$HYPER_MM_DATA:data}}/omniglot/train'))
