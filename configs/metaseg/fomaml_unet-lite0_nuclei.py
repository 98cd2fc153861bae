# First-order MAML of a U-Net with a pretrained encoder, each task in an appearance of its own; its plain baseline is unet-lite0_nuclei.py
#   python tools/train.py configs/metaseg/fomaml_unet-lite0_nuclei.py
# Result: not trained
#   python tools/test.py configs/metaseg/fomaml_unet-lite0_nuclei.py CHECKPOINT
# Others: --cfg-options model.algorithm=anil (metasgd, reptile). Data: data/nuclei (or where
# HYPER_MM_DATA says). 400 iterations of 2 tasks of 2 + 4 images of one site: 8 images in an outer
# gradient, as in its baseline; tested on 5 of the site left out.
_base_ = [
    '../_base_/models/unet_efficientnet-lite0.py',
    '../_base_/datasets/nuclei_episodes.py',
    '../_base_/schedules/adamw_pretrained_400.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='hyper_mm.MetaLearner',
    model=_base_.segmentor,
    algorithm='fomaml',
    inner_lr=0.1,
    inner_steps=2,
    test_steps=10,
    norms='frozen',
)
train_dataloader = dict(batch_size=2, dataset=dict(k_shot=2, n_query=4, style=dict(prob=0.8)))
test_cfg = dict(type='hyper_mm.FewShotEvalLoop', seeds=[0, 1, 2, 3, 4])
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400, max_keep_ckpts=2))
