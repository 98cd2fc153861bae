"""The page of hierarchies: what it holds, that nothing in it can break out, and what it does."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from hyper_mm.visualization import hierarchy_page
from tests.helpers.browser import needs_browser, run_in_browser
from tests.helpers.tangents import make_tangents

EVIL = '</script><script>alert(1)</script> & "quotes"'


def drawing(seed=0, curvature=1.0, assigned=True, **options):
    rng = np.random.default_rng(seed)
    leaves = rng.dirichlet(np.full(8, 0.2), 12).T  # (8, 12), columns sum to 1
    leaves[7] = 0  # a node that is not used
    leaves /= leaves.sum(0)
    middle = leaves[0::2] + leaves[1::2]
    attention = [leaves, middle, middle[0::2] + middle[1::2]]
    if not assigned:
        attention = [rng.dirichlet(np.full(12, 0.3), n) for n in (8, 4, 2)]
    return {
        'image': rng.integers(0, 256, (60, 80, 3), dtype=np.uint8),
        'attention': attention,
        'feature_size': (3, 4),
        'tangents': make_tangents(8, 3),
        'curvature': curvature,
        'assigned': assigned,
        **options,
    }


class Parts(HTMLParser):
    """Elements, their attributes, and the text of scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag == 'script':
            self.scripts.append('')

    def handle_data(self, data):
        if self.found and self.found[-1][0] == 'script' and self.scripts:
            self.scripts[-1] += data


def data_of(page: str) -> list[dict]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def test_holds_images_regions_and_places():
    page = hierarchy_page([drawing(0), drawing(1, assigned=False)], ['first', 'second'])
    first, second = data_of(page)
    assert [first['title'], second['title']] == ['first', 'second']
    assert first['size'] == [80, 60] and first['grid'] == [3, 4]
    assert [len(level['regions']) for level in first['levels']] == [8, 4, 2]
    assert first['levels'][0]['shares'][7] == 0  # marked as not in use
    assert sum(first['levels'][2]['shares']) == pytest.approx(1, abs=1e-3)
    assert len(first['points']) == len(first['radii']) == 14 and len(first['paths']) == 12
    assert all(x**2 + y**2 < 1 for x, y in first['points'])


def test_without_space_there_is_no_disk():
    (entry,) = data_of(hierarchy_page([drawing(tangents=None)], ['x']))
    assert 'points' not in entry


def test_flat_space_has_straight_paths():
    (entry,) = data_of(hierarchy_page([drawing(curvature=None)], ['x']))
    assert entry['flat'] and all(len(path) == 2 for path in entry['paths'])


def test_no_text_leaves_its_place():
    page = hierarchy_page([drawing()], [EVIL], heading=EVIL)
    assert data_of(page)[0]['title'] == EVIL
    assert 'alert(1)</script>' not in page
    assert len(Parts(page).scripts) == 2


def test_asks_nothing_of_a_network():
    page = hierarchy_page([drawing()], ['x'])
    assert "default-src 'none'" in page
    addresses = set(re.findall(r'https?://[^\s"\'<>]+', page))
    assert addresses == {'http://www.w3.org/2000/svg'}  # a name, not a place
    for tag, attributes in Parts(page).found:
        assert tag not in ('link', 'iframe', 'object') and 'src' not in attributes, tag


@pytest.mark.parametrize(
    'drawings, titles, message',
    [
        ([], [], 'titles must be one for each of at least one drawing, got 0 for 0'),
        ([drawing()], [], 'got 0 for 1'),
        ([drawing(feature_size=(3, 5))], ['x'], 'feature_size must have 12 positions'),
        ([drawing(image=np.zeros((4, 4), np.uint8))], ['x'], 'image must be uint8 of shape'),
        ([drawing(tangents=np.zeros((3, 2)))], ['x'], 'one row for each of 14 nodes'),
    ],
)
def test_bad_arguments(drawings, titles, message):
    with pytest.raises(ValueError, match=message):
        hierarchy_page(drawings, titles)


SCENARIO = """
<script>
const log = [];
const note = () => document.getElementById('note').textContent;
const tree = document.getElementById('tree');
const press = (key) => {
  tree.dispatchEvent(new KeyboardEvent('keydown', {key, cancelable: true}));
  log.push(note());
};
log.push(note());
tree.querySelector('[data-level="0"][data-node="7"]').dispatchEvent(new MouseEvent('mouseenter'));
log.push(note());
['ArrowUp', 'ArrowUp', 'ArrowDown', 'ArrowRight', 'ArrowLeft', 'Escape'].forEach(press);
log.push(document.querySelectorAll('#disk .node.on').length);
const level = document.getElementById('level');
level.value = '0';
level.dispatchEvent(new Event('change'));
log.push(note());
const image = document.getElementById('image');
image.value = '1';
image.dispatchEvent(new Event('change'));
log.push(note(), image.selectedOptions[0].textContent);
log.push(document.querySelectorAll('#tree .unused').length);
const canvas = document.getElementById('picture'), box = canvas.getBoundingClientRect();
canvas.dispatchEvent(new MouseEvent('mousemove', {clientX: box.left + 1, clientY: box.top + 1}));
log.push(note());
const out = document.createElement('pre');
out.id = 'log';
out.textContent = JSON.stringify(log);
document.body.appendChild(out);
</script>
"""


@needs_browser
def test_in_a_browser(tmp_path):
    """Hover, keys, lists and the pointer on the image, in headless Chromium."""
    page = hierarchy_page([drawing(0), drawing(1)], ['first', EVIL])
    first, second = data_of(page)
    log = run_in_browser(page, SCENARIO, tmp_path)

    def used(entry, level):
        shares = entry['levels'][level]['shares']
        return f'{sum(s > 0 for s in shares)} of {len(shares)} nodes in use'

    assert log[0] == f'Top level: {used(first, 2)}'
    assert log[1].startswith('Leaves, node 8: not used in this image')
    assert log[2].startswith('Level 2, node 4: ')
    assert log[3].startswith('Top level, node 2: ')
    assert log[4].startswith('Level 2, node 3: ')
    assert log[5].startswith('Level 2, node 4: ') and log[6].startswith('Level 2, node 3: ')
    assert log[7] == f'Level 2: {used(first, 1)}' and log[8] == 4
    assert log[9] == f'Leaves: {used(first, 0)}'
    assert log[10] == f'Leaves: {used(second, 0)}' and log[11] == EVIL
    unused = sum(s == 0 for level in second['levels'] for s in level['shares'])
    assert log[12] == unused
    winner = int(np.argmax(drawing(1)['attention'][0][:, 0]))
    assert log[13].startswith(f'Leaves, node {winner + 1}: ')
