# PC-459: 5104 images of Pascal Context with 459 classes
_base_ = 'open_vocab.py'
test_dataloader = dict(
    dataset=dict(type='hyper_mm.PascalContext459Dataset', data_root='data/pc459')
)
test_evaluator = dict(ignore_index=459)
