# A small CLIP on nine superclasses of ImageNet as it is: by the names of the classes alone.
#   python tools/test.py configs/lathadapter/zeroshot_clip-mini_imagenet-coarse.py data/clip_mini.pt
# Result: 5.00 % top-1, without training (docs/tables/lathadapter.md)
# Data: data/imagenet_sample and data/imagenet_coarse.json; CLIP:
# tools/experiments/pretrain_tiny_clip.py.
_base_ = [
    '../_base_/models/clip-mini_prompted.py',
    '../_base_/datasets/few_shot_64_test.py',
    '../_base_/default_runtime_mmpretrain.py',
]
test_cfg = dict()
custom_hooks = [dict(type='hyper_mm.DatasetVocabularyHook')]
test_dataloader = dict(
    dataset=dict(
        data_root='{{$HYPER_MM_DATA:data}}/imagenet_sample',
        split_json='{{$HYPER_MM_DATA:data}}/imagenet_coarse.json',
    )
)
