"""Pictures of tests: where a model is uncertain, and its predictions at the levels of a tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import PixelData

from hyper_mm.checks import check_at_least, check_positive
from hyper_mm.layers.taxonomy import Taxonomy
from hyper_mm.registry import HOOKS


@HOOKS.register_module()
class PredictionMapsHook(Hook):
    """Saves pictures of the predictions of a segmentor in tests.

    For an image ``a.jpg``:

    - ``a_uncertainty.png``: bright where the embedding is near the origin, if predictions have
      radii: ``test_cfg=dict(mode='whole', radius=True)`` of ``hyper_mm.EncoderDecoder`` with
      ``classifier=...``. The scale runs from the origin to ``radius``.
    - ``a_level<k>.png``: the prediction in the groups of the tree at depth ``k``, over the image,
      in the mean color of their classes.

    Args:
        taxonomy: A file, an object or the name of one of our trees, see
            :meth:`hyper_mm.layers.taxonomy.Taxonomy.load`; no levels are drawn if None.
        levels: Depths to draw, 1 is the coarsest; all above the classes if None.
        uncertainty: Draw the uncertainty; predictions must have radii then.
        radius: Distance from the origin that is black; the largest of each image if None.
        interval: Images from one that is drawn to the next.
        out_dir: Folder; ``maps`` below the log folder of the run if None.

    Raises:
        ValueError: For numbers outside their range, if nothing is to be drawn, or, in the test, for
            predictions without radii, a level that the tree has not, other classes, or two images
            of one name.

    Example:
        >>> custom_hooks = [dict(type='hyper_mm.PredictionMapsHook', taxonomy='camvid')]
    """

    priority = 'LOW'

    def __init__(
        self,
        taxonomy: str | Path | Mapping[str, Any] | None = None,
        levels: Sequence[int] | None = None,
        uncertainty: bool = True,
        radius: float | None = None,
        interval: int = 1,
        out_dir: str | None = None,
    ):
        check_at_least(1, interval=interval)
        if radius is not None:
            check_positive(radius=radius)
        if taxonomy is None and not uncertainty:
            raise ValueError('PredictionMapsHook has nothing to draw: give taxonomy or uncertainty')
        if taxonomy is None and levels is not None:
            raise ValueError(f'levels are those of a tree: give taxonomy, got levels={levels}')
        self.taxonomy, self.levels, self.uncertainty = taxonomy, levels, uncertainty
        self.radius, self.interval, self.out_dir = radius, interval, out_dir
        self._levels: dict[int, tuple[torch.Tensor, Any]] = {}
        self._seen, self._drawn = 0, dict[str, str]()
        if taxonomy is not None:
            self._check_levels(Taxonomy.load(taxonomy))

    def _check_levels(self, tree: Taxonomy) -> list[int]:
        levels = list(tree.depths()) if self.levels is None else list(self.levels)
        wrong = [k for k in levels if k not in tree.depths()]
        if wrong:
            raise ValueError(
                f'levels must be in {list(tree.depths())} of {tree.source}, got {wrong}'
            )
        return levels

    def before_test(self, runner: Runner) -> None:
        """Compares the classes of the data set with the tree, and makes its visualizers."""
        self._seen, self._levels, self._drawn = 0, {}, {}
        if self.taxonomy is None:
            return
        from mmseg.visualization import SegLocalVisualizer

        meta = runner.test_loop.dataloader.dataset.metainfo
        tree = Taxonomy.load(self.taxonomy, tuple(meta['classes']))
        colors = np.asarray(meta.get('palette') or _palette(tree.num_classes), dtype=float)
        for level in self._check_levels(tree):
            groups, names = tree.at_depth(level)
            palette = [
                colors[(groups == g).numpy()].mean(0).astype(int).tolist()
                for g in range(len(names))
            ]
            visualizer = SegLocalVisualizer(alpha=0.5)
            visualizer.dataset_meta = dict(classes=names, palette=palette)
            self._levels[level] = groups, visualizer

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Draws every ``interval``-th image."""
        folder = Path(self.out_dir or Path(runner.log_dir) / 'maps')
        for sample in outputs or ():
            self._seen += 1
            if (self._seen - 1) % self.interval:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            stem = Path(sample.img_path).stem
            if self._drawn.setdefault(stem, sample.img_path) != sample.img_path:
                raise ValueError(
                    f'PredictionMapsHook: the pictures of {sample.img_path} and '
                    f'{self._drawn[stem]} would be the same files: give images of different '
                    'folders different names'
                )
            if self.uncertainty:
                if 'embedding_radius' not in sample:
                    raise ValueError(
                        'PredictionMapsHook: predictions have no embedding_radius; set '
                        "test_cfg=dict(mode='whole', radius=True) in hyper_mm.EncoderDecoder, or "
                        'uncertainty=False'
                    )
                _write(folder / f'{stem}_uncertainty.png', self._heat(sample.embedding_radius))
            for level, (groups, visualizer) in self._levels.items():
                image = cv2.cvtColor(cv2.imread(sample.img_path), cv2.COLOR_BGR2RGB)
                found = groups.to(sample.pred_sem_seg.data.device)[sample.pred_sem_seg.data.long()]
                drawn = type(sample)(pred_sem_seg=PixelData(data=found.cpu()))
                visualizer.add_datasample(
                    stem, image, drawn, draw_gt=False, out_file=f'{folder / stem}_level{level}.png'
                )

    def _heat(self, radius: PixelData) -> np.ndarray:
        """Colors ``(H, W, 3)`` of radii, in the order of OpenCV."""
        values = radius.data[0].float().cpu().numpy()
        limit = self.radius or max(float(values.max()), 1e-12)
        gray = np.round(255 * (1 - np.clip(values / limit, 0, 1))).astype(np.uint8)
        return cv2.applyColorMap(gray, cv2.COLORMAP_INFERNO)


def _palette(num: int) -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(0)
    return [tuple(color) for color in rng.integers(0, 256, (num, 3))]


def _write(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f'could not write {path}')
