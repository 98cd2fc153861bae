"""A small few-shot classifier and an episode for it."""

import pytest
import torch

from hyper_mm.registry import MODELS


def build(wrap=True, head='hyper_mm.PrototypicalClsHead', **options):
    pytest.importorskip('mmpretrain')
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    model = dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
        backbone=dict(type='hyper_mm.ConvBlocks', channels=8, depth=2),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type=head, **options),
    )
    if not wrap:
        return MODELS.build(model)
    return MODELS.build(dict(type='hyper_mm.PrototypicalClassifier', model=model))


def episode(ways=3, shots=2):
    """A class is one brightness of each channel."""
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ways).repeat_interleave(shots)
    colors = torch.randn(ways, 3, 1, 1, generator=generator)

    def batch():
        images = colors[labels] + 0.1 * torch.randn(len(labels), 3, 8, 8, generator=generator)
        samples = [DataSample().set_gt_label(label) for label in labels]
        return dict(inputs=images, data_samples=samples)

    return dict(support=batch(), query=batch())
