"""A drawn set in the layout of LVIS v1, and a stand-in for the package ``lvis``."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import mmcv
import numpy as np
import pytest
from mmdet.datasets import LVISV1Dataset
from mmdet.datasets.api_wrappers import COCO, COCOeval

NAMES = LVISV1Dataset.METAINFO['classes']
FREQUENCIES = 'fcr'
DRAWN = 0, 4, 2
"""Classes of the images: a frequent, a common, a rare one."""
SYNONYMS = {
    'aerosol_can': ['spray_can'],
    'alligator': ['gator', 'Spray_Can', 'alcohol', 'arctic_(type_of_shoe)'],  # of others, too
    'arctic_(type_of_shoe)': ['galosh', 'rubber_(type_of_shoe)', 'over,shoe'],
}


def categories() -> list[dict]:
    """LVIS' categories: every third one is rare, from the third on."""
    return [
        dict(
            id=place + 1,
            name=name,
            synset=f'{name}.n.01',
            synonyms=[name, *SYNONYMS.get(name, ())],
            frequency=FREQUENCIES[place % 3],
        )
        for place, name in enumerate(NAMES)
    ]


def write_lvis(root: Path, images: int = 3, size: tuple[int, int] = (48, 64)) -> Path:
    """Images of three squares, one of each class; then one of the rare class alone, and one without
    any. Training and validation have as many."""
    generator = np.random.default_rng(0)
    folder = root / 'lvis_v1' / 'annotations'
    folder.mkdir(parents=True)
    for split in ('train', 'val'):
        data = dict(info={}, licenses=[], categories=categories(), images=[], annotations=[])
        for index in range(images + 2):
            file = f'{split}2017/{index:012}.jpg'
            picture = generator.integers(90, 150, (*size, 3), dtype=np.uint8)
            shown = DRAWN if index < images else DRAWN[2:] if index == images else ()
            for place in shown:
                x, y, side = 4 + 10 * place, 6 + 2 * index, 16
                picture[y : y + side, x : x + side] = 60 * place
                polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
                data['annotations'].append(
                    dict(
                        id=len(data['annotations']) + 1, image_id=index + 1, category_id=place + 1,
                        bbox=[x, y, side, side], area=side * side, segmentation=[polygon],
                    )
                )  # fmt: skip
            mmcv.imwrite(picture, str(root / 'lvis_v1' / file))
            data['images'].append(
                dict(
                    id=index + 1, height=size[0], width=size[1],
                    coco_url=f'http://images.cocodataset.org/{file}',
                    neg_category_ids=[7, 8, 9], not_exhaustive_category_ids=[1, 3],
                )
            )  # fmt: skip
        (folder / f'lvis_v1_{split}.json').write_text(json.dumps(data))
    return folder


class _Annotations(COCO):
    """``LVIS`` by COCO's class, which wants a flag that LVIS does not have."""

    def createIndex(self) -> None:
        for annotation in self.dataset.get('annotations', ()):
            annotation.setdefault('iscrowd', 0)
        super().createIndex()


class _Evaluation(COCOeval):
    """mmdet's calls of ``LVISEval`` by COCO's evaluation: it knows no negative categories."""

    def summarize(self) -> None:
        pass

    def print_results(self) -> None:
        pass

    def get_results(self) -> dict[str, float]:
        def mean(precision: np.ndarray) -> float:
            known = precision[precision > -1]
            return float(known.mean()) if known.size else -1.0

        precision = self.eval['precision'][:, :, :, 0, -1]
        kinds = [c['frequency'] for c in self.cocoGt.load_cats(self.params.catIds)]
        found = {
            f'AP{kind}': mean(precision[:, :, [k == kind for k in kinds]]) for kind in FREQUENCIES
        }
        return dict(found, AP=mean(precision), AP50=mean(precision[:1]))


def install_lvis(patch: pytest.MonkeyPatch) -> None:
    """Makes mmdet's data set and metric of LVIS work: with the package, or with COCO's classes."""
    if importlib.util.find_spec('lvis') is not None:
        patch.setattr(np, 'float', float, raising=False)  # of version 0.5.3; gone in numpy 1.24
        return
    from mmdet.evaluation.metrics import lvis_metric

    module = types.ModuleType('lvis')
    module.LVIS = _Annotations
    module.LVISResults = lambda truth, file: truth.loadRes(file)
    module.LVISEval = _Evaluation
    patch.setitem(sys.modules, 'lvis', module)
    patch.setattr(lvis_metric, 'lvis', module)
    for name in ('LVIS', 'LVISResults', 'LVISEval'):
        patch.setattr(lvis_metric, name, getattr(module, name), raising=False)
