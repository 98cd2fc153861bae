"""The page about the hierarchy in a CLIP model."""

import re

import cv2
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from tests.helpers.tools import load_tool

pytest.importorskip('open_clip')
pytest.importorskip('mmpretrain')
pytestmark = pytest.mark.mmpretrain

CHAINS = [('thing', 'cup', 'red cup', 'A <red> cup.'), ('animal', 'dog', 'small dog', 'A dog.')]
CONFIG = """
model = dict(
    type='hyper_mm.RadialCLIP',
    loss=dict(type='hyper_mm.RadialEmbeddingLoss', lambda_reg=0.0),
    clip=dict(model=dict(
        embed_dim=16,
        quick_gelu=True,
        vision_cfg=dict(image_size=32, layers=1, width=32, head_width=16, patch_size=16),
        text_cfg=dict(context_length=77, vocab_size=49408, width=16, heads=2, layers=1),
    )),
)
"""
EDGES = 'root animal\nroot thing\nanimal dog\nanimal cat\nthing cup\ndog n1\ncat n2\ncup n3\n'


@pytest.fixture
def tool(repo):
    return load_tool('analysis_tools/hierarchy_report.py')


def write_inputs(folder):
    (folder / 'images').mkdir()
    rows = ['id,captions,image_url']
    for i, chain in enumerate(CHAINS):
        image = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / 'images' / f'{i}.jpg'), image)
        rows.append(f'{i},{" => ".join(chain)},x/{i}.jpg')
    (folder / 'hierarcaps_test.csv').write_text('\n'.join(rows))
    (folder / 'config.py').write_text(CONFIG)
    (folder / 'modified').mkdir()
    (folder / 'modified' / 'class_hierarchy.txt').write_text(EDGES)
    (folder / 'modified' / 'node_names.txt').write_text('n1\tpug\n')


def test_page(tool, tmp_path):
    write_inputs(tmp_path)
    arguments = ['--config', str(tmp_path / 'config.py'), '--data-root', str(tmp_path)]
    arguments += ['--hierarchy', str(tmp_path), '--out', str(tmp_path / 'page.html')]
    model = tool.load_model(tool.parse_args(arguments))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    tool.main([*arguments, '--checkpoint', str(tmp_path / 'model.pth')])
    page = (tmp_path / 'page.html').read_text()
    assert len(re.findall('image/png', page)) == 2
    assert len(re.findall('image/jpeg', page)) == 2
    assert 'A &lt;red&gt; cup.' in page and '<red>' not in page
    for score in ('precision', 'tau_d', 'tau_d_words'):
        assert re.search(rf'<td>{score}</td><td>-?\d\.\d+</td>', page)


def test_labels_of_neighbours_do_not_overlap(tool):
    figure, ax = plt.subplots()
    ax.set(xlim=(-1, 1), ylim=(-1, 1))
    points = np.array([[0, 0], [0.02, 0], [0, 0.5], [0.1, 0.5]])
    tool.place_labels(ax, points, ['animal', 'mammal', 'person', 'plant'], np.full(4, 8))
    boxes = [text.get_window_extent() for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == ['animal', 'mammal', 'person', 'plant']
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    plt.close(figure)


@pytest.mark.parametrize(
    'arguments', [[], ['--model', 'a', '--config', 'b'], ['--model', 'a', '--images', '1']]
)
def test_bad_arguments(tool, arguments):
    with pytest.raises(SystemExit):
        tool.parse_args(arguments)
