# LorentzViT-S + UPerNet on ADE20K: as deit-s_ade20k.py with another backbone.
#   python tools/train.py configs/lorentz_vit/lorentz-vit-s_ade20k.py
# Result: not trained (DeiT-S: 43.0 mIoU)
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations,
# from a checkpoint of lorentz-vit-s_imagenet.py.
_base_ = [
    '../_base_/models/upernet_deit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='hyper_mm.LorentzViT',
        arch='small',
        out_type='featmap',
        out_indices=(2, 5, 8, 11),
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/lorentz-vit-s_imagenet/epoch_300.pth',
            prefix='backbone.',
        ),
    ),
)
