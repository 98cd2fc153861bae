"""Arms of the comparison of adapters, on a small text tower and made-up features."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch.nn.functional import one_hot

pytest.importorskip('open_clip')
pytest.importorskip('mmengine')
pytest.importorskip('peft')
pytest.importorskip('transformers')

from tests.helpers.clip_families import make_family  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

CLASSES = 8


@pytest.fixture(scope='module')
def tool():
    return load_tool('experiments/adapter_arms.py')


@pytest.fixture(scope='module')
def data(tool):
    """Images whose cells are one class each, and features that say which."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(CLASSES, (6, 2, 3), generator=generator)
    directions = torch.randn(CLASSES, 32, generator=generator)
    labels = [c.repeat_interleave(4, 0).repeat_interleave(4, 1) for c in classes]
    images = tool.Images(directions[classes], one_hot(classes, CLASSES).float(), labels)
    images = tool.normalized(images, torch.zeros(32))
    tokens = torch.randint(4, 98, (CLASSES, 6), generator=generator)
    found = dict(all=images, train=images, test=images, tokens=tokens, directions=directions)
    return dict(found, camvid=(images, tokens.flip(0)))


def test_scores_of_the_true_directions(tool, data):
    images = data['test']
    nearest = tool.Images(images.features, images.shares, [c for c in images.labels])
    text = torch.nn.functional.normalize(data['directions'], dim=-1)
    found = tool.evaluate(text, nearest, [0, 3])
    assert min(found.values()) > 60  # all but the borders between cells, which are interpolated
    shifted = tool.evaluate(text.roll(1, 0), nearest, [0, 3])
    assert max(shifted.values()) < 25


def test_shares_of_cells(tool):
    label = torch.full((64, 96), 2)
    label[:32, :8] = 0
    label[32:, 64:] = 255  # of no class
    found = tool.class_shares(label, 3)
    assert found.shape == (2, 3, 3)
    assert found[0, 0].tolist() == [0.25, 0, 0.75] and found[0, 1].tolist() == [0, 0, 1]
    assert found[1, 2].tolist() == [0, 0, 0]


def test_labels_below_the_first_class_do_not_count(tool, tmp_path):
    trunk = SimpleNamespace(
        forward_features=lambda x: torch.nn.functional.avg_pool2d(x, 32),
        get_classifier=lambda: torch.nn.Identity(),
    )
    clip = SimpleNamespace(visual=SimpleNamespace(trunk=trunk))
    height, width = tool.SIZE
    label = torch.zeros(height, width, dtype=torch.uint8)
    label[:32, :32], label[32:64] = 1, 2
    for name, pixels in (('images', label[..., None].expand(-1, -1, 3)), ('maps', label)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels.numpy()).save(tmp_path / name / 'a.png')
    found = tool.read_images(clip, tmp_path / 'images', tmp_path / 'maps', 2, first=1)
    assert found.features.shape == (1, height // 32, width // 32, 3)
    assert found.shares[0, 0, 0].tolist() == [1, 0] and found.shares[0, 1, 0].tolist() == [0, 1]
    assert found.shares[0, 0, 1].tolist() == [0, 0]
    assert found.labels[0].unique().tolist() == [0, 1, 255]


def test_classes_held_out(tool, data):
    first, second = (tool.held_out(data['all'], seed) for seed in (0, 1))
    assert len(first) == 2 and first == tool.held_out(data['all'], 0) != second


def test_every_arm_trains(tool, data, tmp_path, monkeypatch):
    clip = make_family('BERT', tmp_path)
    oft = dict(tool.ARMS['OFT (peft)'][0], oft_block_size=8)
    monkeypatch.setitem(tool.ARMS, 'OFT (peft)', (oft, [1e-2]))
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    args = SimpleNamespace(steps=3, batch=4, names=5)
    frozen = tool.run(clip, 'frozen', 0.0, 0, data, args)
    again = tool.run(clip, 'frozen', 0.0, 0, data, args)
    assert frozen == again and frozen['trained'] == 0
    assert frozen['camvid'] != frozen['all']  # other names
    assert 'camvid' not in tool.run(clip, 'frozen', 0.0, 0, dict(data, camvid=None), args)
    for arm in tool.ARMS:
        if arm != 'frozen':
            found = tool.run(clip, arm, 0.05, 0, data, args)
            assert found['trained'] > 0 and found['seconds'] > 0
            assert found['seen'] != frozen['seen'] or found['unseen'] != frozen['unseen'], arm
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())


def test_spread(tool):
    assert tool.standard_error([1.0]) == '1.00'
    assert tool.standard_error([1.0, 3.0]) == '2.00 ± 1.00'
