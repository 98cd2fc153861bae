# Hi-Mapper (mode B), Swin-T, Mask R-CNN on COCO for three times as long.
#   python tools/train.py configs/himapper_swin-t_coco_3x.py
# Data: data/coco (as mmdet prepares it). 8 GPUs x 2 images, 36 epochs.
# Expected: not trained here.
_base_ = ['himapper_swin-t_coco.py', '_base_/schedules/adamw_3x_coco.py']
