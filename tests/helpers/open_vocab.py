"""Small open-vocabulary segmentors and random batches."""

import copy

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from hyper_mm.registry import MODELS

NAMES = ['cat', 'dog', 'green grass', 'sky', 'car']
SIZE = 32
WINDOWS = dict(mode='slide_global', size=48, window=32, stride=16)
HYPERCLIP = dict(type='hyper_mm.HyperCLIPAdapter', block_size=8)


def config(names=NAMES, ignore='zero', ignore_index=255, **options):
    return ConfigDict(
        {
            **dict(
                type='hyper_mm.OpenVocabSegmentor',
                data_preprocessor=dict(
                    type='mmseg.SegDataPreProcessor',
                    size=(SIZE, SIZE),
                    mean=[0.0] * 3,
                    std=[1.0] * 3,
                    seg_pad_val=ignore_index,
                ),
                clip=dict(
                    model=dict(
                        embed_dim=16,
                        quick_gelu=True,
                        vision_cfg=dict(
                            image_size=SIZE, layers=3, width=24, head_width=8, patch_size=8
                        ),
                        text_cfg=dict(
                            context_length=77, vocab_size=49408, width=16, heads=2, layers=2
                        ),
                    )
                ),
                vocabulary=list(names),
                decode_head=dict(
                    type='hyper_mm.CostAggregationHead',
                    in_channels=24,
                    guidance_channels=(16, 8),
                    aggregator=dict(AGGREGATOR),
                    ignore=ignore,
                    ignore_index=ignore_index,
                ),
                text=dict(chunk=3, checkpoint=True),
                test_cfg=dict(mode='whole'),
            ),
            **options,
        }
    )


AGGREGATOR = dict(
    text_dim=16,
    appearance_dim=16,
    dim=16,
    projected_dim=8,
    decoder_dims=(16, 16),
    decoder_guidance_dims=(4, 4),
    num_layers=1,
    num_heads=2,
    window=2,
    pad_len=0,
)


def build(**options):
    return MODELS.build(config(**options))


def batch(size=2, height=SIZE, width=SIZE, classes=5):
    images, samples = torch.randn(size, 3, height, width), []
    for _ in images:
        meta = dict(img_shape=(height, width), ori_shape=(height + 5, width - 3))
        label = torch.randint(classes, (1, height, width))
        samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=label)))
    return dict(inputs=list(images), data_samples=samples)


def run(model, data, mode='loss'):
    data = model.data_preprocessor(copy.deepcopy(data), training=mode == 'loss')
    return model(**data, mode=mode)


def trained(model):
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def labels_of(samples):
    return [sample.pred_sem_seg.data for sample in samples]
