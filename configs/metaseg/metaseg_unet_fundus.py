# Boundary-oriented episodic learning of a small U-Net (FedDG without the federation): a step on the images must help with the same images in the colors of another site.
#   python tools/train.py configs/metaseg/metaseg_unet_fundus.py
# Result: not trained
# Before it:
#   python tools/dataset_converters/amplitude_bank.py site2=data/fundus/site2/images site3=data/fundus/site3/images site4=data/fundus/site4/images -o work_dirs/fundus_amplitudes.npz
# Data: data/fundus (layout: _base_/datasets/fundus_sites.py). 20000 iterations of 5 images.
_base_ = ['./unet_fundus.py', '../_base_/models/episodic_segmentor.py']
model = dict(
    _delete_=True,
    model=_base_.model,
    structures=[*_base_.structures.values()],
    **_base_.episodic,
)
bank = 'work_dirs/fundus_amplitudes.npz'
train_dataloader = dict(
    batch_size=5,
    dataset=dict(
        pipeline=[
            *_base_.augment,
            dict(bank=bank, **_base_.style_mix),
            dict(meta_keys=_base_.meta_keys, **_base_.pack_episode),
        ]
    ),
)
