# default_runtime_open_vocab_mmdet.py for training by iterations
_base_ = 'default_runtime_open_vocab_mmdet.py'
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000))
log_processor = dict(by_epoch=False)
visualizer = dict(type='hyper_mm.DetLocalVisualizer')  # draws images in which nothing was found
