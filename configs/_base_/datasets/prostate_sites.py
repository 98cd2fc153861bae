# Prostate in T2-weighted MRI of six sites (SAML, MICCAI 2020: RUNMC, BMC, I2CVB, UCL, BIDMC, HK),
# axial slices as gray images: <site>/{images,masks}/<case>_<slice>.png, masks of 0 background,
# 1 prostate. Trained on five sites, tested on the sixth. Scores are means over slices; the papers'
# are over volumes
_base_ = './fundus_sites.py'
data_root = 'data/prostate'
metainfo = dict(classes=('background', 'prostate'), palette=[[0, 0, 0], [220, 60, 60]])
structures = dict(prostate=[1])
train_sites = ['BMC', 'I2CVB', 'UCL', 'BIDMC', 'HK']
test_sites = ['RUNMC']
site_data = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(dataset=dict(sites=train_sites, **site_data))
val_dataloader = dict(dataset=dict(sites=test_sites, **site_data))
test_dataloader = val_dataloader
val_evaluator = dict(structures=dict(_delete_=True, **structures))
test_evaluator = val_evaluator
