# Prototypes on a U-Net with a pretrained encoder, each task in an appearance of its own
#   python tools/train.py configs/metaseg/protonet_unet-lite0_nuclei.py
# Result: not trained
#   python tools/test.py configs/metaseg/protonet_unet-lite0_nuclei.py CHECKPOINT
# Frozen pretrained features, without the decoder: --cfg-options model.model.neck=None
# model.model.decode_head.in_index=1 and no training. Data: data/nuclei (or where HYPER_MM_DATA
# says). 400 iterations of 2 tasks of 2 + 4 images of one site; tested on 5 of the site left out.
_base_ = './fomaml_unet-lite0_nuclei.py'
model = dict(
    _delete_=True,
    type='hyper_mm.PrototypicalSegmentor',
    model=dict(
        _base_.segmentor,
        decode_head=dict(
            type='hyper_mm.PrototypicalHead',
            in_index=0,
            classifier=dict(distance='cosine', scale=20.0),
        ),
    ),
)
