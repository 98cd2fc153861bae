# PC-59: 5104 images of Pascal Context with 59 classes
_base_ = 'open_vocab.py'
test_dataloader = dict(dataset=dict(type='hyper_mm.PascalContext59Dataset', data_root='data/pc59'))
