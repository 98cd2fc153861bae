# CoOp's schedule: SGD, a first epoch at 1e-5, then a cosine that begins at the full rate in the
# second epoch (Dassl's recount: of E epochs the last one of the cosine is not reached). A config
# gives lr, the first factor (1e-5 / lr), and the number of epochs as T_max, max_epochs and
# val_interval. The cosine's end lies behind any run: mmengine would set it to the last epoch, and
# refuse runs of a single one.
_base_ = '../default_runtime_mmpretrain.py'
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0035, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = [
    # end=2: the factor is taken back at the second epoch
    dict(type='ConstantLR', factor=1e-5 / 0.0035, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=5, eta_min=0.0, by_epoch=True, begin=1, end=10000),
]
train_cfg = dict(by_epoch=True, max_epochs=5, val_interval=5)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=1, max_keep_ckpts=2))
custom_hooks = [
    dict(type='hyper_mm.ExactResumeHook'),
    dict(type='hyper_mm.DatasetVocabularyHook'),
]
