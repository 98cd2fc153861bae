"""Things of PartScenes, each drawn alone."""

import numpy as np

from hyper_mm.datasets.part_scenes import PART_CLASSES, PART_TO_WHOLE
from hyper_mm.datasets.part_scenes.canvas import Canvas
from hyper_mm.datasets.part_scenes.common import COLORS
from hyper_mm.datasets.part_scenes.objects import EXTENT, draw_object

SIZE, FOOT, SCALE = (160, 160), (80.0, 150.0), 9.0


def draw(whole, seed=0, night=False, **options):
    """A canvas with one thing, and the name of its color."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(SIZE, rng, night=night)
    return canvas, draw_object(canvas, whole, FOOT, SCALE, rng, 7, **options)


def drawn(whole, seed=0, **options):
    """A canvas with one thing."""
    return draw(whole, seed, **options)[0]


def check_drawing(whole):
    """A thing has all its parts and no other, one id, its usual extent, and a color of the list."""
    seen, widths, heights = set(), [], []
    for seed in range(8):
        canvas, color = draw(whole, seed)
        assert color is None or color in COLORS
        parts, instances, _ = canvas.maps()
        assert set(np.unique(instances[parts > 0])) == {7}
        names = {PART_CLASSES[i - 1] for i in np.unique(parts[parts > 0])}
        assert {PART_TO_WHOLE[name] for name in names} == {whole}
        seen |= names
        rows, columns = np.nonzero(parts)
        enlarged = parts.shape[0] / SIZE[0] * SCALE  # pixels of the canvas per meter
        widths.append(np.ptp(columns) / enlarged)
        heights.append((FOOT[1] * parts.shape[0] / SIZE[0] - rows.min()) / enlarged)
    assert seen == {part for part, name in PART_TO_WHOLE.items() if name == whole}
    width, height = EXTENT[whole]
    assert 0.5 * width < np.mean(widths) < 1.5 * width
    assert 0.5 * height < np.mean(heights) < 1.5 * height
