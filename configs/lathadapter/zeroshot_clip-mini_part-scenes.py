# A small CLIP on PartScenes' 12 things as it is: by the names of the classes alone.
#   python tools/test.py configs/lathadapter/zeroshot_clip-mini_part-scenes.py data/clip_mini.pt
# Result: 60.76 % top-1, without training (docs/tables/lathadapter.md)
# Data: data/part_scenes_shots/imagenet; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = [
    '../_base_/models/clip-mini_prompted.py',
    '../_base_/datasets/few_shot_64_test.py',
    '../_base_/default_runtime_mmpretrain.py',
]
test_cfg = dict()
custom_hooks = [dict(type='hyper_mm.DatasetVocabularyHook')]
test_dataloader = dict(dataset=dict(data_root='{{$HYPER_MM_DATA:data}}/part_scenes/imagenet/train'))
