# Prototypes on a small U-Net over the sites of nuclei; other spaces: --cfg-options model.model.decode_head.classifier.distance=lorentz (cosine, euclidean, poincare)
#   python tools/train.py configs/metaseg/protonet_unet_nuclei.py
# Result: not trained
#   python tools/test.py configs/metaseg/protonet_unet_nuclei.py CHECKPOINT
# Data: data/nuclei (or where HYPER_MM_DATA says). 1000 iterations of 4 tasks, each 5 images of one
# site and 5 others of it; tested on 5 of the site left out.
_base_ = [
    '../_base_/models/fcn_unet-small.py',
    '../_base_/datasets/nuclei_episodes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_meta_small.py',
]
model = dict(
    type='hyper_mm.PrototypicalSegmentor',
    model=dict(
        _base_.segmentor,
        decode_head=dict(
            type='hyper_mm.PrototypicalHead',
            in_index=4,
            classifier=dict(distance='cosine', scale=20.0),
        ),
    ),
)
test_cfg = dict(type='hyper_mm.FewShotEvalLoop', seeds=[0, 1, 2, 3, 4])
