"""Configs of episodes of three kinds of task."""

import pytest

for name in ('mmseg', 'mmdet', 'mmpretrain'):
    pytest.importorskip(name)

from mmengine.registry import DefaultScope  # noqa: E402

from hyper_mm.datasets.part_scenes import generate  # noqa: E402

pytestmark = [pytest.mark.mmseg, pytest.mark.mmdet, pytest.mark.mmpretrain]


NORMALISE = dict(mean=[120.0] * 3, std=[60.0] * 3)


BACKBONE = dict(
    type='mmpretrain.ResNet',
    depth=18,
    stem_channels=8,
    base_channels=8,
    norm_cfg=dict(type='GN', num_groups=4),
    out_indices=(0, 1, 2, 3),
    init_cfg=None,
)


def episode_configs(folder):
    """Configs of episodes of the three forms of PartScenes."""
    roots = generate(folder, ['ade', 'coco', 'imagenet'], 24, 0, (64, 64), progress=False)
    load = dict(type='LoadImageFromFile')
    keys = ('ori_shape', 'img_shape', 'scale_factor')
    episode = dict(type='hyper_mm.EpisodeDataset')
    return dict(
        seg=dict(
            episode,
            k_shot=2,
            classes=[0, 4, 8, 12],
            dataset=dict(
                _scope_='mmseg',
                type='hyper_mm.PartScenesWholesDataset',
                data_root=str(roots['ade']),
                data_prefix=dict(
                    img_path='images/training', seg_map_path='annotations_wholes/training'
                ),
                pipeline=[
                    load,
                    dict(type='LoadAnnotations', reduce_zero_label=True),
                    dict(type='PackSegInputs', meta_keys=('img_path', *keys)),
                ],
            ),
        ),
        det=dict(
            episode,
            n_way=2,
            dataset=dict(
                _scope_='mmdet',
                type='hyper_mm.PartScenesDetDataset',
                data_root=str(roots['coco']),
                ann_file='annotations/instances_train.json',
                data_prefix=dict(img='train/'),
                pipeline=[
                    load,
                    dict(type='LoadAnnotations', with_bbox=True),
                    dict(type='Resize', scale=(64, 64)),
                    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', *keys)),
                ],
            ),
        ),
        cls=dict(
            episode,
            n_way=3,
            dataset=dict(
                _scope_='mmpretrain',
                type='CustomDataset',
                data_root=str(roots['imagenet']),
                data_prefix='train',
                pipeline=[load, dict(type='PackInputs', meta_keys=('img_path', *keys[:2]))],
            ),
        ),
    )


def register_scopes():
    """Registers the three frameworks, and mmseg as the default scope."""
    from mmdet.utils import register_all_modules as mmdet
    from mmpretrain.utils import register_all_modules as mmpretrain
    from mmseg.utils import register_all_modules as mmseg

    for register in (mmdet, mmpretrain, mmseg):
        register(init_default_scope=False)
    DefaultScope.get_instance(f'mixed{len(DefaultScope._instance_dict)}', scope_name='mmseg')


def mixed(datasets, **options):
    return dict(type='hyper_mm.MixedEpisodeDataset', datasets=datasets, **options)
