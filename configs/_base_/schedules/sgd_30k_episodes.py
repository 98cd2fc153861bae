# PANet's: 30000 episodes, a tenth of the rate from 10000 and again from 20000
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = [dict(type='MultiStepLR', milestones=[10000, 20000], by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=30000, val_interval=30001)
test_cfg = dict(type='hyper_mm.FewShotEvalLoop', seeds=[0, 1, 2, 3, 4])
