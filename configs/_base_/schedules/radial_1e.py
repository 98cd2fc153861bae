# One pass over the chains with a small constant rate, in float32
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-7, weight_decay=0.01))
param_scheduler = []
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
