r"""Shows whether the hyperbolic term of LatHAdapter moves the predictions of a trained model.

    python tools/experiments/hyperbolic_term.py CONFIG CHECKPOINT --out term.json

Predictions are by the sum of the cosine over its temperature and of the negative distance over its
own. Printed are the accuracy of the sum and of either term alone, and the share of test images
whose class changes by adding the distance, in percent; `predictions` in the file are the classes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from mmengine.config import Config


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--out', type=Path, help='json file to write')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/hyperbolic_term'))
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return parser.parse_args(arguments)


def summary(cosine: torch.Tensor, hyperbolic: torch.Tensor, labels: torch.Tensor) -> dict:
    """What the two terms predict.

    Args:
        cosine: Logits of the cosine ``(N, C)``.
        hyperbolic: Those of the distance ``(N, C)``.
        labels: Classes ``(N)``.

    Returns:
        ``accuracy`` of the sum, ``cosine`` and ``hyperbolic`` alone, ``changed``, all in percent;
        ``spread``, the mean range of the hyperbolic logits of an image over that of the cosine's;
        and ``predictions``.
    """
    both = (cosine + hyperbolic).argmax(1)

    def percent(found: torch.Tensor) -> float:
        return 100 * found.float().mean().item()

    def span(logits: torch.Tensor) -> torch.Tensor:
        return logits.max(1).values - logits.min(1).values

    return dict(
        accuracy=percent(both == labels),
        cosine=percent(cosine.argmax(1) == labels),
        hyperbolic=percent(hyperbolic.argmax(1) == labels),
        changed=percent(both != cosine.argmax(1)),
        spread=(span(hyperbolic).mean() / span(cosine).mean()).item(),
        predictions=both.tolist(),
    )


def measure(cfg: Config, checkpoint: Path) -> dict:
    """Runs the test set of a config through a model with :class:`hyper_mm.LatHAdapterHead`.

    Args:
        cfg: The config.
        checkpoint: Checkpoint of the model.

    Returns:
        See :func:`summary`.

    Raises:
        ValueError: If the model has no such head.
    """
    import torch
    from mmengine.runner import Runner

    from hyper_mm.datasets.vocabulary import Vocabulary

    if not cfg.model.get('head'):
        raise ValueError('the model has no head: it has no hyperbolic term')
    cfg.load_from = str(checkpoint)
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    model, loader = runner.model.eval(), runner.build_dataloader(cfg.test_dataloader)
    classes = loader.dataset.metainfo['classes']
    model.set_vocabulary(Vocabulary.of_dataset(classes, model.templates))
    found, labels = [], []
    with torch.no_grad():
        text = model.text_features()
        for data in loader:
            data = model.data_preprocessor(data, False)
            found.append(model.head.terms(model.image_features(data['inputs']), text))
            labels += [sample.gt_label for sample in data['data_samples']]
    cosine, hyperbolic = (torch.cat(part).cpu() for part in zip(*found))
    return summary(cosine, hyperbolic, torch.cat(labels).cpu())


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    args = parse_args(arguments)
    from mmengine.config import Config

    from hyper_mm.engine.launch import parse_options
    from hyper_mm.engine.records import write_text

    cfg = Config.fromfile(args.config)
    cfg.work_dir = str(args.work_dir)
    cfg.merge_from_dict(parse_options(args.cfg_options))
    found = measure(cfg, args.checkpoint)
    if args.out:
        write_text(args.out, json.dumps(found))
    print({name: value for name, value in found.items() if name != 'predictions'})


if __name__ == '__main__':
    main()
