# Hi-Mapper, LorentzViT-S + UPerNet on ADE20K: its points are not lifted again.
#   python tools/train.py configs/himapper/himapper_lorentz-vit-s_ade20k.py
# Result: not trained
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations,
# from a checkpoint of lorentz-vit-s_imagenet.py.
_base_ = '../lorentz_vit/lorentz-vit-s_ade20k.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    neck=dict(type='hyper_mm.HiMapper', in_channels=384, points=True),
)
