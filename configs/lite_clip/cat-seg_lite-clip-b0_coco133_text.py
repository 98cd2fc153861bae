# Cost aggregation on LiteCLIP and its text tower, both trained, 120 of 133 classes of COCO; 13 are held out.
#   python tools/train.py configs/lite_clip/cat-seg_lite-clip-b0_coco133_text.py
# Result: 14.39 ± 0.58 mIoU, 10.60 of the untrained head (docs/tables/cat-seg_lite-clip.md)
# Data: as for cat-seg_lite-clip-b0_coco133.py, whose text tower stays frozen: its baseline.
_base_ = 'cat-seg_lite-clip-b0_coco133.py'
model = dict(
    adapter=dict(type='hyper_mm.FullTuning', towers=('text',)),
    text=dict(chunk=None, checkpoint=False),  # the names of a step are few
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'clip': dict(lr_mult=0.5)}))
