"""A tree of photographs without labels: what it learns from, and what it writes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.helpers.tools import load_tool


@pytest.fixture
def tool():
    return load_tool('fit_hierarchy.py')


def photograph(seed: int, size=(64, 96)) -> np.ndarray:
    """An image whose upper half is blue and whose lower half is a coarse pattern."""
    draw = np.random.default_rng(seed)
    image = np.zeros((*size, 3), np.uint8)
    image[: size[0] // 2] = (60, 120, 220)
    blocks = draw.integers(0, 256, (*size, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    image[size[0] // 2 :] = blocks[: size[0] - size[0] // 2, : size[1]]
    return image


def test_sides_are_multiples_of_the_stride(tool, tmp_path):
    file = tmp_path / 'a.png'
    cv2.imwrite(str(file), photograph(0, (100, 150))[..., ::-1])
    image = tool.read_image(file, 128)
    assert image.shape == (96, 128, 3)
    assert image[5, 5, 2] > image[5, 5, 0]  # RGB
    file.write_text('no image')
    with pytest.raises(ValueError, match='is no image that OpenCV reads'):
        tool.read_image(file, 128)


def test_images_are_taken_evenly(tool):
    files = list(range(10))
    assert tool.evenly(files, 4) == [0, 2, 5, 7]
    assert tool.evenly(files, None) == tool.evenly(files, 20) == files
    with pytest.raises(ValueError, match='max_images must be at least 1, got 0'):
        tool.evenly(files, 0)


@pytest.mark.parametrize('size', [(64, 96), (96, 64), (32, 32)])
def test_views_are_the_image_and_its_halves(tool, size):
    image = photograph(0, size)
    whole, first, last = tool.views_of(image)
    assert whole is image
    assert all(min(view.shape[:2]) % 32 == 0 for view in (first, last))
    assert np.array_equal(first[0, 0], image[0, 0]) and np.array_equal(last[-1, -1], image[-1, -1])


def test_fit_makes_nodes_depend_on_the_image(tool):
    from hyper_mm.visualization import collapse_indicators

    draw = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 8, 4, n, generator=draw) for n in (4, 5, 6, 4)]
    maps = [x + 2 * torch.randn(1, 8, 1, 1, generator=draw) for x in maps]

    def image_cosine(steps):
        module = tool.fit(maps, steps, dict(num_leaves=4, num_levels=2))
        assert not module.training
        drawings = [tool.drawing_of(module, x, photograph(0)) for x in maps]
        for drawing, x in zip(drawings, maps):
            assert drawing['feature_size'] == tuple(x.shape[-2:])
            radii = np.linalg.norm(drawing['tangents'], axis=1)
            np.testing.assert_allclose(radii, [2, 2, 2, 2, 1, 1], rtol=1e-5)
        with torch.no_grad():
            leaves = torch.cat([module.decompose(x.flatten(2).mT).levels[0] for x in maps])
        shares = [drawing['attention'] for drawing in drawings]
        return collapse_indicators(shares, leaves, assigned=True)['image_cosine']

    assert image_cosine(60) < image_cosine(0)


def test_command_line(tool, tmp_path, monkeypatch, capsys):
    """With a backbone that takes means of blocks in place of the pretrained one."""
    monkeypatch.setattr(
        tool, 'build_backbone', lambda: lambda x: [torch.nn.functional.avg_pool2d(x, 8)]
    )
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), photograph(i)[..., ::-1])
    out = tmp_path / 'out'
    options = ['--steps', '2', '--leaves', '4', '--levels', '2', '--longest', '96']
    arguments = [str(tmp_path), '--draw', str(tmp_path / '1.png'), '--out-dir', str(out)]
    assert tool.main([*arguments, '--max-images', '2', *options]) == 0
    assert sorted(p.name for p in out.iterdir()) == ['1_hierarchy.png', 'hierarchies.html']
    assert '"title": "1.png"' in (out / 'hierarchies.html').read_text(encoding='utf-8')
    for bad, message in (
        (['--steps', '0'], '--steps must be at least 1, got 0'),
        (['--leaves', '3'], 'num_leaves must be divisible by'),
    ):
        with pytest.raises(SystemExit):
            tool.main([*arguments, *options, *bad])
        assert message in capsys.readouterr().err
