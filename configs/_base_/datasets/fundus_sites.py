# Optic disc and cup in fundus images of four sites (DoFE, TMI 2020: Drishti-GS, RIM-ONE-r3 and the
# two parts of REFUGE), crops of 800 x 800 around the disc: <site>/{images,masks}/<name>.png, masks
# of 0 background, 1 rim (disc without cup), 2 cup. Trained on three sites, tested on the fourth:
# change train_sites and test_sites together
_base_ = './nuclei_sites.py'
data_root = 'data/fundus'
metainfo = dict(
    classes=('background', 'rim', 'cup'), palette=[[0, 0, 0], [220, 60, 60], [60, 120, 220]]
)
structures = dict(disc=[1, 2], cup=[2])
train_sites = ['site2', 'site3', 'site4']
test_sites = ['site1']
size = (384, 384)
augment = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=size),
    dict(type='RandomFlip', prob=0.5),
]
train_pipeline = [*augment, dict(type='PackSegInputs', meta_keys=_base_.meta_keys)]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=size),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs', meta_keys=_base_.meta_keys),
]
site_data = dict(
    data_root=data_root,
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    img_suffix='.png',
    metainfo=metainfo,
)
train_dataloader = dict(dataset=dict(sites=train_sites, pipeline=train_pipeline, **site_data))
val_dataloader = dict(dataset=dict(sites=test_sites, pipeline=test_pipeline, **site_data))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='hyper_mm.DiceHausdorffMetric',
    structures=structures,
    largest_component=True,
)
test_evaluator = val_evaluator
