# Hi-Mapper, DeiT-S + UPerNet on ADE20K: the same config as in configs/himapper/.
#   python tools/train.py configs/himapper_deit-s_ade20k.py
# Result: not trained (paper: 46.3 mIoU)
_base_ = './himapper/himapper_deit-s_ade20k.py'
