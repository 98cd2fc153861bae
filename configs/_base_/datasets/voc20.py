# PAS-20: 1449 images of Pascal VOC 2012 with 20 classes, background ignored
_base_ = 'open_vocab.py'
test_dataloader = dict(dataset=dict(type='hyper_mm.PascalVOC20Dataset', data_root='data/voc20'))
