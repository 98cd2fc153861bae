"""The page on an adaptation."""

from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip('mmseg')

from hyper_mm.engine.adaptation import pictures  # noqa: E402
from hyper_mm.engine.adaptation.report import Case, estimate, page, say, trust  # noqa: E402
from tests.helpers.browser import needs_browser, run_in_browser  # noqa: E402


class Checked(HTMLParser):
    """Follows the nesting of tags, and collects what a page would load."""

    VOID = ('meta', 'img', 'br')

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        assert tag not in ('script', 'link', 'iframe')
        self.loaded += [v for k, v in attributes if k in ('src', 'href')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def cases(values):
    picture = pictures.as_data_uri(np.zeros((4, 5, 3), np.uint8))
    return [Case(f'<{i}>', v - 5, v, 2.0, picture) for i, v in enumerate(values)]


def test_a_page_holds_everything_itself():
    values = [10.0, 90.0, 50.0, 70.0, 30.0, 80.0, float('nan')]
    text = page('A & B', cases(values), 6, 'query', 'mm', ['Beware.'], {'steps': '3'}, [['rate']])
    checked = Checked(text)
    assert len(checked.loaded) == 6 and all(x.startswith('data:image') for x in checked.loaded)
    words = ' '.join(checked.words)
    assert 'A & B' in words and 'Beware.' in words and '<0>' in words  # as text, not as a tag
    assert 'rose from 50.0 to 55.0, judged on 6 images' in words
    worst, best = text.index('Worst cases'), text.index('Best cases')
    assert worst < text.index('&lt;0&gt;: Dice 10.0') < text.index('&lt;4&gt;: Dice 30.0') < best
    assert best < text.index('&lt;1&gt;: Dice 90.0') < text.index('&lt;5&gt;: Dice 80.0')


def test_intervals_hold_the_mean_and_few_images_have_none():
    values = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    found = estimate(values)
    assert found.mean == 35 and found.is_interval
    half = 1.96 * np.std(values) / 6**0.5  # the bootstrap's own standard error
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    few = estimate(values[:3])
    assert (few.low, few.high, few.is_interval) == (10, 30, False)
    assert 'range 10.0 to 30.0' in say(few) and '95 % interval' in say(found)
    assert say(estimate([])) == 'not known' and 'one image' in say(estimate([4.0]))


def test_what_can_be_trusted():
    assert any('Fewer than 5' in line for line in trust(20, 3, 'query'))
    assert not any('Fewer than 5' in line for line in trust(5, 5, 'left out'))
    assert any('nothing about other images' in line for line in trust(1, 2, 'halves'))
    # five other images give an interval, whatever was learned from
    assert not any('no interval' in line for line in trust(1, 5, 'query'))
    assert any('label 2 more' in line for line in trust(5, 3, 'query'))
    assert any('were chosen on' in line for line in trust(5, 5, 'left out'))
    for given in (trust(5, 5, 'left out', chosen=False), trust(5, 5, 'query')):
        assert not any('were chosen on' in line for line in given)


def test_distances_before_and_after():
    known = [case._replace(distance_before=8.0) for case in cases([60.0] * 5)]
    words = '|'.join(Checked(page('x', known, 5, 'query', 'mm', [], {})).words)
    assert '8.0 (95 % interval 8.0 to 8.0)|2.0 (95 % interval 2.0 to 2.0)' in words


def test_a_page_of_one_image():
    words = ' '.join(Checked(page('x', cases([60.0]), 1, 'halves', 'pixels', [], {})).words)
    assert '1 labeled image.' in words and 'Best cases' not in words
    assert 'No image had anything' in ' '.join(
        Checked(page('x', cases([float('nan')]), 2, 'query', 'pixels', [], {})).words
    )


SCENARIO = """
<pre id="log"></pre>
<script>
window.addEventListener('load', () => {
  const boxes = [...document.querySelectorAll('table, figure, p')].map(
    x => x.getBoundingClientRect().right);
  document.getElementById('log').textContent = JSON.stringify({
    images: [...document.images].map(x => [x.complete, x.naturalWidth, x.alt]),
    heads: [...document.querySelectorAll('h1, h2')].map(x => x.textContent),
    text: document.querySelector('.note').innerText,
    loaded: performance.getEntriesByType('resource').filter(
      x => !x.name.startsWith('data:')).length,
    overflow: Math.max(...boxes) > document.documentElement.clientWidth,
  });
});
</script>
"""


@needs_browser
@pytest.mark.parametrize('width', [500, 1200])
def test_in_a_browser(tmp_path, width):
    values = [10.0, 90.0, 50.0, 70.0, 30.0, 80.0]
    text = page('A & <B>', cases(values), 6, 'query', 'mm', ['Beware <i>.'], {'steps': '3'})
    found = run_in_browser(text, SCENARIO, tmp_path, width)
    assert len(found['images']) == 6 and not found['loaded'] and not found['overflow']
    assert all(complete and wide == 5 for complete, wide, _ in found['images'])
    assert found['images'][0][2] == '<0> with both outlines'
    assert found['heads'][:3] == ['A & <B>', 'Worst cases', 'Best cases']
    assert 'Beware <i>.' in found['text']
