"""How many boxes of a detection set a CLIP tower names right, without any training.

    python tools/experiments/region_names.py configs/hyperclip/lite-clip_coco-mini.py
    python tools/experiments/region_names.py configs/hyperclip/lite-clip_bccd.py

Each box of the validation set (crowds left out) is pooled from the tower's last map and named by
the nearest text of the vocabulary: what an open-vocabulary detector adds to its own classifier, and
all that it knows of novel classes. Beside it stands chance: one over the number of names. Boxes of
novel classes are named among all names, and among those of the novel classes. The temperature is
that of the least cross-entropy on the training set.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tables import markdown

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURES = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1)


def boxes_of(dataset, model, vocabulary) -> tuple[Tensor, Tensor]:
    """Features and classes of the boxes of a data set.

    Args:
        dataset: A data set of mmdet whose images and boxes are loaded.
        model: The detector.
        vocabulary: Whose classes count; boxes of others are left out.

    Returns:
        Features ``(N, D)`` by the tower, and classes of the vocabulary ``(N,)``.
    """
    import torch

    rows = vocabulary.match(dataset.metainfo['classes'])
    features, labels = [], []
    for item in dataset:
        data = model.data_preprocessor(
            dict(inputs=[item['inputs']], data_samples=[item['data_samples']]), False
        )
        found = data['data_samples'][0].gt_instances
        if not len(found.labels):
            continue
        sample = data['data_samples'][0]
        scale = torch.tensor(sample.scale_factor * 2)
        last = model.backbone(data['inputs']).last[0]
        boxes = found.bboxes.tensor if hasattr(found.bboxes, 'tensor') else found.bboxes
        features.append(
            model.backbone.tower.boxes(last, boxes * scale if dataset.test_mode else boxes)
        )
        labels += [rows[label] for label in found.labels.tolist()]
    known = torch.tensor([label is not None for label in labels])
    classes = torch.tensor([-1 if label is None else label for label in labels])
    return torch.cat(features)[known], classes[known]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of an open-vocabulary detector')
    parser.add_argument('--templates', default='cat-seg', help='set of prompt templates')
    args = parser.parse_args()
    import torch
    import torch.nn.functional as F
    from mmengine.config import Config
    from mmengine.registry import DATASETS, MODELS, init_default_scope

    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    vocabulary = model.vocabulary.with_templates(args.templates)
    seen = torch.tensor(vocabulary.shared_with(model.train_vocabulary))
    rows = [['boxes', 'number', 'names', 'right, %', 'chance, %', 'times chance']]

    def row(name: str, cosines: Tensor, labels: Tensor) -> None:
        rate, chance = (cosines.argmax(1) == labels).float().mean().item(), 1 / cosines.shape[1]
        numbers = (f'{100 * rate:.1f}', f'{100 * chance:.1f}', f'{rate / chance:.1f}')
        rows.append([name, str(len(labels)), str(cosines.shape[1]), *numbers])

    with torch.no_grad():
        names = model.backbone.encode(vocabulary)
        train = DATASETS.build(cfg.train_dataloader.dataset)
        features, labels = boxes_of(train, model, vocabulary)
        cosines = names.cosines(F.normalize(features, dim=1))
        losses = {t: F.cross_entropy(cosines / t, labels).item() for t in TEMPERATURES}
        features, labels = boxes_of(DATASETS.build(cfg.val_dataloader.dataset), model, vocabulary)
        cosines = names.cosines(F.normalize(features, dim=1))
    novel = ~seen[labels]
    place = (~seen).cumsum(0) - 1
    row('all', cosines, labels)
    row('base', cosines[~novel], labels[~novel])
    row('novel', cosines[novel], labels[novel])
    row('novel, novel names alone', cosines[novel][:, ~seen], place[labels[novel]])
    print(markdown(rows))
    print(f'temperature: {min(losses, key=lambda t: losses[t])} ({len(train)} training images)')


if __name__ == '__main__':
    main()
