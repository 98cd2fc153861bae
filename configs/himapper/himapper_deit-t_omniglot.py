# Hi-Mapper, a small DeiT-T on the alphabets of Omniglot from random weights.
#   python tools/train.py configs/himapper/himapper_deit-t_omniglot.py
# Result: not trained
# Data: data/omniglot, unpacked in seconds (see _base_/datasets/omniglot_alphabets.py). 3 epochs.
_base_ = 'deit-t_omniglot.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=192, num_prefix_tokens=1),
)
