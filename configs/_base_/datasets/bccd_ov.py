# BCCD (blood cells) with the platelets as novel class
_base_ = './bccd.py'
train_dataloader = dict(dataset=dict(metainfo=dict(classes=('RBC', 'WBC'))))
metainfo = dict(
    classes=('RBC', 'WBC', 'Platelets'),
    base_classes=('RBC', 'WBC'),
    novel_classes=('Platelets',),
)
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(type='OVCocoMetric', metric='bbox')
test_evaluator = val_evaluator
