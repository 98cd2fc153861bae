# A small DeiT-T on the alphabets of Omniglot from random weights: the baseline of himapper_deit-t_omniglot.py.
#   python tools/train.py configs/himapper/deit-t_omniglot.py
# Result: 34.93 ± 2.72 % top-1, seeds 0 1 2 (docs/tables/classification.md)
# Data: data/omniglot, unpacked in seconds (see _base_/datasets/omniglot_alphabets.py). 3 epochs.
# The largest alphabet has 29.4 %.
_base_ = [
    '../_base_/models/vit_cls_small.py',
    '../_base_/datasets/omniglot_alphabets.py',
    '../_base_/schedules/adamw_cls_small.py',
]
model = dict(
    head=dict(num_classes=5, topk=(1,)),
)
train_cfg = dict(max_epochs=3, val_interval=3)
