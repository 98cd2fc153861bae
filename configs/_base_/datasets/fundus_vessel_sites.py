# Retinal vessels of two sites (DRIVE, CHASE_DB1): <site>/{images,labels}, splits.json;
# 0 background, 1 vessel, 255 outside of the field of view. Trained on one, tested on the
# other; in data/, or where HYPER_MM_DATA says
_base_ = './nuclei_sites.py'
data_root = '{{$HYPER_MM_DATA:data}}/fundus_vessel'
metainfo = dict(classes=('background', 'vessel'), palette=[[0, 0, 0], [220, 60, 60]])
train_sites = ['drive']
test_sites = ['chasedb1']
resize = dict(type='RandomResize', scale=(512, 512), ratio_range=(0.75, 1.5), keep_ratio=True)
augment = [*_base_.augment[:2], resize, *_base_.augment[3:]]
train_pipeline = [*augment, _base_.train_pipeline[-1]]
prefix = dict(img_path='images', seg_map_path='labels')
site_data = dict(data_root=data_root, data_prefix=prefix, metainfo=metainfo)
train_dataloader = dict(
    dataset=dict(sites=train_sites, split='train', pipeline=train_pipeline, **site_data)
)
val_dataloader = dict(dataset=dict(sites=test_sites, split='val', **site_data))
test_dataloader = val_dataloader
