# PAS-20b: the same with background, which is what is none of the 20 classes
_base_ = 'open_vocab.py'
test_dataloader = dict(dataset=dict(type='hyper_mm.PascalVOC20bDataset', data_root='data/voc20b'))
test_evaluator = dict(collapse=20)
