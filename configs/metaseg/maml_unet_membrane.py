# MAML of a small U-Net over all sites of nuclei, tested on a fifth domain with another structure: membranes in electron microscopy
#   python tools/train.py configs/metaseg/maml_unet_membrane.py
# Result: not trained
#   python tools/test.py configs/metaseg/maml_unet_membrane.py CHECKPOINT
# Data: data/nuclei and data/membrane (or where HYPER_MM_DATA says). 1000 iterations of 4 tasks,
# each 5 images of one site and 5 others of it; tested on 5 of the membranes.
_base_ = './maml_unet_nuclei.py'
sites = ['fluorescence', 'stained_light', 'brightfield', 'stained_tissue']
train_dataloader = dict(dataset=dict(dataset=dict(sites=sites)))
# those of val are too few for 5 + 5
membrane = dict(
    data_root='{{$HYPER_MM_DATA:data}}',
    sites=['membrane'],
    data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
    metainfo=dict(classes=('background', 'membrane'), palette=[[0, 0, 0], [220, 60, 60]]),
)
val_dataloader = dict(dataset=dict(dataset=membrane))
test_dataloader = val_dataloader
