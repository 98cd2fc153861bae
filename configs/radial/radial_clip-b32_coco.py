# Image-text retrieval on COCO, before and after tuning by radial_clip-b32_hierarcaps.py.
#   python tools/test.py configs/radial/radial_clip-b32_coco.py CHECKPOINT
# Result: not tested (paper, ViT-L/14: R@5 0.61 before and after)
# Data: data/coco with val2014 and annotations/caption_karpathy_test2014.json (OpenMMLab has it).
_base_ = [
    '../_base_/models/radial_clip.py',
    '../_base_/datasets/coco_captions.py',
    '../_base_/default_runtime_radial.py',
]
