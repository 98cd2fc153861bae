"""The tool that draws hierarchies, on a tiny model with random weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hyper_mm.visualization import draw_hierarchy, find_mapper
from tests.conftest import REPO
from tests.helpers.tools import load_tool


@pytest.fixture(scope='module')
def tool():
    return load_tool('visualize_hierarchy.py')


SEGMENTOR = """
_base_ = '{repo}/configs/himapper/himapper_deit-t_part-scenes.py'
model = dict(
    backbone=dict(embed_dims=16, num_heads=2, num_layers=1, out_indices=(0,)),
    neck=dict(in_channels=16, num_leaves=8, num_levels=3, width=16, hyp_dim=8),
    decode_head=dict(_delete_=True, type='FCNHead', in_channels=16, in_index=0, channels=8,
                     num_convs=1, num_classes=19),
    auxiliary_head=None,
)
"""


MAPPER = "type='hyper_mm.HiMapper', num_leaves=8, num_levels=2, width=16, hyp_dim=8"
DETECTOR = f"""
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(depth=18, init_cfg=None),
    neck=dict(_delete_=True, {MAPPER}, in_channels=[64, 128, 256, 512],
              neck=dict(type='mmdet.FPN', in_channels=[64, 128, 256, 512], out_channels=8,
                        num_outs=5)),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=8),
                  bbox_head=dict(in_channels=8, fc_out_channels=8)),
)
"""
CLASSIFIER = f"""
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
model = dict(neck=dict(_delete_=True, {MAPPER}, in_channels=512,
                       neck=dict(type='mmpretrain.GlobalAveragePooling')))
"""


POOLING = """
_base_ = '{repo}/configs/himapper/himapper_deit-t_part-scenes_cls.py'
model = dict(
    backbone=dict(arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)),
    neck=dict(in_channels=16, num_leaves=8, num_levels=2, width=16, hyp_dim=8),
    head=dict(in_channels=16))
"""


def write_model(folder, text: str, meta: dict) -> tuple:
    """Writes a config and a checkpoint of random weights."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    config, checkpoint = folder / 'tiny.py', folder / 'tiny.pth'
    config.write_text(text)
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(), meta=meta), checkpoint)
    return config, checkpoint


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A config, its checkpoint, and a folder of images of three sizes."""
    folder = tmp_path_factory.mktemp('tiny')
    meta = dict(dataset_meta=dict(classes=('sky', 'sea'), palette=[(0, 0, 255), (0, 255, 0)]))
    config, checkpoint = write_model(folder, SEGMENTOR.format(repo=REPO), meta)
    images = folder / 'images'
    images.mkdir()
    for name, size in (('a.jpg', (96, 96)), ('b.png', (70, 131)), ('c.jpg', (260, 90))):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        cv2.imwrite(str(images / name), pixels)
    (images / 'notes.txt').write_text('no image')
    return config, checkpoint, images


@pytest.mark.mmseg
def test_command_line_draws_images_of_any_size(tool, files, tmp_path, capsys):
    config, checkpoint, images = map(str, files)
    out = tmp_path / 'out'
    options = ['--out-dir', str(out), '--device', 'cpu', '--html']
    assert tool.main([config, checkpoint, images, *options]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        *(f'{name}_hierarchy.png' for name in ('a', 'b', 'c')),
        'hierarchies.html',
    ]
    page = (out / 'hierarchies.html').read_text(encoding='utf-8')
    assert all(f'"title": "{name}"' in page for name in ('a.jpg', 'b.png', 'c.jpg'))
    assert cv2.imread(str(out / 'b_hierarchy.png')).shape[1] == 1300
    assert capsys.readouterr().out.count('distinctness') == 3


@pytest.mark.mmseg
def test_max_images_and_options(tool, files, tmp_path):
    config, checkpoint, images = map(str, files)
    out = tmp_path / 'out'
    options = ['--cfg-options', 'model.test_cfg.mode=slide', 'model.test_cfg.crop_size=(32,32)']
    arguments = [config, checkpoint, images, '--out-dir', str(out), '--device', 'cpu']
    assert tool.main([*arguments, '--max-images', '1', *options]) == 0
    assert len(list(out.iterdir())) == 1


@pytest.mark.mmseg
@pytest.mark.parametrize(
    ('options', 'has_nodes', 'curved'),
    [
        ({}, True, True),
        ({'model.neck.contrastive_weight': 0}, False, False),
        ({'model.neck.manifold': 'euclidean'}, True, False),
    ],
)
def test_reads_what_the_mapper_sees(tool, files, options, has_nodes, curved):
    config, checkpoint, images = files
    model, pipeline, meta = tool.load_model(str(config), str(checkpoint), cfg_options=options)
    found = tool.hierarchy_of(model, pipeline, images / 'b.png')
    height, width = found['feature_size']
    assert height * width == found['attention'][0].shape[1] and width > 1.5 * height
    assert [len(a) for a in found['attention']] == [8, 4, 2]
    np.testing.assert_allclose(found['attention'][0].sum(1), 1, rtol=1e-5)
    assert found['image'].shape[:2] == found['segmentation'].shape
    assert ('tangents' in found) == has_nodes and ('curvature' in found) == curved
    if has_nodes:
        assert found['tangents'].shape == (14, 8)
    assert meta['classes'] == ('sky', 'sea')
    assert not find_mapper(model)._forward_pre_hooks


@pytest.mark.mmseg
def test_image_is_shown_in_its_colors(tool, files, tmp_path):
    config, checkpoint, _ = files
    red = np.zeros((96, 96, 3), np.uint8)
    red[..., 2] = 200  # OpenCV's order
    cv2.imwrite(str(tmp_path / 'red.png'), red)
    model, pipeline, _ = tool.load_model(str(config), str(checkpoint))
    image = tool.hierarchy_of(model, pipeline, tmp_path / 'red.png')['image']
    assert (image == [200, 0, 0]).all()


@pytest.mark.parametrize(
    ('text', 'size'),
    [
        pytest.param(DETECTOR, None, marks=pytest.mark.mmdet, id='mmdet'),
        pytest.param(CLASSIFIER, (7, 7), marks=pytest.mark.mmpretrain, id='mmpretrain'),
        pytest.param(POOLING, (8, 8), marks=pytest.mark.mmpretrain, id='class token'),
    ],
)
def test_models_of_the_other_libraries(tool, tmp_path, text, size):
    config, checkpoint = write_model(tmp_path, text.replace('{repo}', str(REPO)), {})
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'image.jpg'), pixels)
    options = {'test_dataloader.dataset.pipeline.1.scale': (128, 96)} if size is None else {}
    model, pipeline, _ = tool.load_model(str(config), str(checkpoint), cfg_options=options)
    found = tool.hierarchy_of(model, pipeline, tmp_path / 'image.jpg')
    assert found['feature_size'] == (size or (3, 4))  # 96 x 128 in steps of 32
    assert 'segmentation' not in found and found['tangents'].shape == (12, 8)
    assert draw_hierarchy(**found).shape[1] == 1300


@pytest.mark.mmseg
def test_missing_and_unusable_images(tool, files, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match='no image or folder'):
        tool.find_images([tmp_path / 'nowhere'])
    with pytest.raises(FileNotFoundError, match='no image in'):
        tool.find_images([tmp_path])
    with pytest.raises(ValueError, match='max_images must be at least 1, got 0'):
        tool.find_images([files[2]], 0)
    with pytest.raises(SystemExit):
        tool.main([str(files[0]), str(files[1]), str(tmp_path / 'nowhere')])
    assert 'no image or folder' in capsys.readouterr().err


def test_pictures_of_equal_names_are_kept_apart(tool, tmp_path):
    images = [Path(name) for name in ('x/a.jpg', 'x/a.png', 'y/a.jpg', 'y/b.png', 'x/a_2.png')]
    found = tool.picture_files(images, tmp_path)
    names = ('a', 'a_2', 'a_3', 'b', 'a_2_2')
    assert found == [tmp_path / f'{name}_hierarchy.png' for name in names]


def test_pictures_that_cannot_be_written(tool, tmp_path):
    with pytest.raises(OSError, match=r'could not write .*nowhere/a\.png'):
        tool.write_picture(tmp_path / 'nowhere' / 'a.png', np.zeros((2, 2, 3), np.uint8))
    tool.write_picture(tmp_path / 'a.png', np.full((2, 2, 3), (255, 0, 0), np.uint8))
    assert cv2.imread(str(tmp_path / 'a.png'))[0, 0].tolist() == [0, 0, 255]  # BGR


def test_hidden_files_are_no_images(tool, tmp_path):
    for name in ('a.png', '._a.png'):
        (tmp_path / name).touch()
    assert tool.find_images([tmp_path]) == [tmp_path / 'a.png']
