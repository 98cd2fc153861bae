"""Shapes, labels and colors on a canvas."""

from __future__ import annotations

import numpy as np

from hyper_mm.datasets.part_scenes.canvas import Canvas


class TestCanvas:
    def test_labels_follow_the_shape(self):
        canvas = Canvas((40, 40), np.random.default_rng(0))
        square = np.array([[20.0, 20.0], [59.0, 20.0], [59.0, 59.0], [20.0, 59.0]])
        canvas.fill([square], label=3, instance=2, color=(1.0, 0.0, 0.0))
        image, parts, instances = canvas.develop((1, 1, 1), 0.0, np.random.default_rng(0))
        expected = np.zeros((40, 40), bool)
        expected[10:30, 10:30] = True
        assert np.array_equal(parts == 3, expected)
        assert np.array_equal(instances == 2, expected)
        assert np.array_equal(image[..., 0] > 128, expected)

    def test_later_shapes_hide_earlier_ones(self):
        canvas = Canvas((40, 40), np.random.default_rng(0))
        for label, end in ((1, 70.0), (2, 40.0)):
            shape = np.array([[10.0, 10.0], [end, 10.0], [end, 70.0], [10.0, 70.0]])
            canvas.fill([shape], label=label, instance=label, color=(0.5, 0.5, 0.5))
        parts, instances, _ = canvas.maps()
        assert parts[40, 20] == 2 and parts[40, 60] == 1 and parts[5, 5] == 0
        assert np.array_equal(parts, instances)

    def test_outside_is_ignored(self):
        canvas = Canvas((40, 40), np.random.default_rng(0))
        shape = np.array([[-50.0, -50.0], [-10.0, -50.0], [-10.0, -10.0]])
        canvas.fill([shape], label=1, instance=1, color=(0.5, 0.5, 0.5))
        assert not canvas.maps()[0].any()
