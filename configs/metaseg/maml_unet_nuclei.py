# MAML of a small U-Net over the sites of nuclei; its plain baseline is joint_unet_nuclei.py
#   python tools/train.py configs/metaseg/maml_unet_nuclei.py
# Result: not trained
#   python tools/test.py configs/metaseg/maml_unet_nuclei.py CHECKPOINT
# Others: --cfg-options model.algorithm=fomaml (anil, metasgd); fomaml is several times faster, most
# of all on CPUs Data: data/nuclei (or where HYPER_MM_DATA says). 1000 iterations of 4 tasks, each 5
# images of one site and 5 others of it; tested on 5 of the site left out.
_base_ = [
    '../_base_/models/fcn_unet-small.py',
    '../_base_/datasets/nuclei_episodes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_meta_small.py',
]
model = dict(
    type='hyper_mm.MetaLearner',
    model=_base_.segmentor,
    algorithm='maml',
    inner_lr=0.01,
    inner_steps=3,
    test_steps=5,
)
test_cfg = dict(type='hyper_mm.FewShotEvalLoop', seeds=[0, 1, 2, 3, 4])
