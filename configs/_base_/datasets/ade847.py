# 2000 images of ADE20K 2021 with 847 classes
_base_ = 'open_vocab.py'
test_dataloader = dict(dataset=dict(type='hyper_mm.ADE20KFull847Dataset', data_root='data/ade847'))
test_evaluator = dict(ignore_index=65535)
