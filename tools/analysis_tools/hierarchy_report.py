"""One page about the hierarchy in a CLIP model: radii, scores, retrieval paths, class names.

    python tools/analysis_tools/hierarchy_report.py --model ViT-B-32 --pretrained openai
    python tools/analysis_tools/hierarchy_report.py --config CONFIG --checkpoint CHECKPOINT

Needs HierarCaps' test captions with images; the tree of class names needs a BREEDS hierarchy too.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

if TYPE_CHECKING:
    from matplotlib import pyplot as plt
    from matplotlib.transforms import Bbox
    from torch import Tensor

    from hyper_mm.models.vision_language.radial_clip import RadialCLIP


LABEL_PLACES = (
    (0, 4, 'center', 'bottom'),
    (0, -4, 'center', 'top'),
    (6, 0, 'left', 'center'),
    (-6, 0, 'right', 'center'),
)
"""Offsets of a label from its point in points of print, and its alignment."""
DATA = Path(os.environ.get('HYPER_MM_DATA', 'data'))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', help='architecture of open_clip')
    parser.add_argument('--pretrained', help='tag or file of weights')
    parser.add_argument('--config', help='config of a RadialCLIP, instead of --model')
    parser.add_argument('--checkpoint', help='its checkpoint')
    parser.add_argument('--data-root', type=Path, default=DATA / 'hierarcaps')
    parser.add_argument('--hierarchy', type=Path, default=DATA / 'imagenet_sample/hierarchy')
    parser.add_argument('--images', type=int, default=500, help='images to score, at most')
    parser.add_argument('--examples', type=int, default=6, help='images whose path is shown')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/hierarchy_report.html'))
    args = parser.parse_args(argv)
    if (args.model is None) == (args.config is None):
        parser.error('give either --model or --config')
    if args.images < 2 or args.examples < 1:
        parser.error('--images must be at least 2 and --examples at least 1')
    return args


def load_model(args: argparse.Namespace) -> RadialCLIP:
    """The model, ready for inference; a plain CLIP is wrapped."""
    from mmengine.config import Config
    from mmengine.runner import load_checkpoint

    from hyper_mm.models.vision_language.radial_clip import RadialCLIP
    from hyper_mm.registry import MODELS

    if args.model is not None:
        clip = dict(model=args.model, pretrained=args.pretrained)
        return RadialCLIP(clip, truncate=True).eval()
    cfg = Config.fromfile(args.config, import_custom_modules=False)
    if args.checkpoint:
        cfg.model.clip.pop('pretrained', None)
    model = MODELS.build(cfg.model)
    if args.checkpoint:
        load_checkpoint(model, args.checkpoint, map_location='cpu', strict=True)
    return model.eval()


def encode(model: RadialCLIP, items: list[dict]) -> list[dict]:
    """Features of captions and images, as HierarCapsMetric reads them."""
    import mmcv
    import torch

    size = model.clip.visual.image_size
    size = (size, size) if isinstance(size, int) else tuple(size)[::-1]
    texts = list(dict.fromkeys(text for item in items for text in item['texts']))
    features = dict(zip(texts, model.text_features(texts)))
    root = model.text_features([''])[0]
    for item in track(items, 'images'):
        image = mmcv.imresize(mmcv.imread(item['img_path']), size, interpolation='bicubic')
        image = torch.from_numpy(image).permute(2, 0, 1)
        item['image_feature'] = model.image_features([image])[0]
        item['text_features'] = torch.stack([features[text] for text in item['texts']])
        item['root'] = root
    return items


def figure_source(figure: plt.Figure) -> str:
    """An ``<img>`` element that holds the figure."""
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110, bbox_inches='tight')
    plt.close(figure)
    return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def radius_figure(radii: Tensor) -> plt.Figure:
    """Histograms of the radii of each tier ``(N, T)``."""
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 3.4))
    bins = np.linspace(radii.min().item(), radii.max().item() + 1e-6, 41)
    colors = plt.cm.viridis(np.linspace(0.05, 0.85, radii.shape[1]))
    for tier, (column, color) in enumerate(zip(radii.T.numpy(), colors), 1):
        label = f'tier {tier}: mean {column.mean():.3f}'
        ax.hist(column, bins, color=(*color[:3], 0.3), histtype='stepfilled', ec=color, label=label)
    ax.set(xlabel='distance from the root', ylabel='captions')
    ax.spines[['top', 'right']].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return figure


def tree_figure(model: RadialCLIP, folder: Path, depth: int = 3) -> plt.Figure:
    """Class names of the first levels of a hierarchy on the Poincare disk around the root."""
    from matplotlib import pyplot as plt
    from torch.nn.functional import normalize

    from hyper_mm.datasets.breeds import ancestors_at, node_names
    from hyper_mm.visualization.poincare_disk import draw_poincare_disk

    names = node_names(folder)
    at = [ancestors_at(folder, level) for level in range(1, depth + 1)]
    level_of = {node: level for level, above in enumerate(at) for node in set(above.values())}
    nodes = sorted(level_of, key=lambda node: (level_of[node], node))
    number = {node: i for i, node in enumerate(nodes)}
    parents = [number[at[level_of[node] - 1][node]] if level_of[node] else None for node in nodes]
    texts = [names.get(node, node) for node in nodes]
    features = normalize(model.text_features([*texts, '']), dim=-1)
    tangents = features[:-1] - features[-1]
    zoom = 3 / tangents.norm(dim=-1).max().clamp_min(1e-6)
    levels = np.array([level_of[node] for node in nodes])
    figure, ax = plt.subplots(figsize=(8, 8))
    colors = plt.cm.viridis(np.linspace(0.05, 0.85, depth))[:, :3][levels]
    points = draw_poincare_disk(
        ax, (zoom * tangents).numpy(), 1.0, colors, parents, sizes=90.0 / (1 + levels)
    )
    ax.set_title(f'radii x {zoom:.2g}', fontsize=9)
    named = np.flatnonzero(levels < 2)
    place_labels(ax, points[named], [texts[i] for i in named], 8 - levels[named])
    return figure


def place_labels(ax: plt.Axes, points: np.ndarray, texts: list[str], sizes: np.ndarray) -> None:
    """Writes texts beside points, each where it covers the least of those before it."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    outline = [withStroke(linewidth=2, foreground='#f7f7f5')]
    taken: list[Bbox] = []
    for point, text, size in zip(points, texts, sizes):
        found = []
        for x, y, ha, va in LABEL_PLACES:
            label = ax.annotate(
                text, point, (x, y), textcoords='offset points', ha=ha, va=va, fontsize=size
            )
            label.set(zorder=4, path_effects=outline)
            box = label.get_window_extent()
            shared = [Bbox.intersection(box, other) for other in taken]
            found.append((sum(b.width * b.height for b in shared if b is not None), label, box))
        _, best, box = min(found, key=lambda entry: entry[0])
        for _, label, _ in found:
            if label is not best:
                label.remove()
        taken.append(box)


def path_rows(items: list[dict], examples: int) -> str:
    """Table rows: image, the texts met from the root outwards, its captions."""
    import torch
    from torch.nn.functional import normalize

    from hyper_mm.evaluation.functional.caption_hierarchy import radius_levels, walk
    from hyper_mm.layers.radial.radial import text_radii

    pool = {text: f for item in items for text, f in zip(item['texts'], item['text_features'])}
    texts, features = list(pool), torch.stack(list(pool.values()))
    radii = text_radii(features, items[0]['root'])
    step = max(len(items) // examples, 1)
    chosen = items[::step][:examples]
    images = normalize(torch.stack([item['image_feature'] for item in chosen]), dim=-1)
    picks = walk(images @ normalize(features, dim=-1).T, radii, radius_levels(radii))
    rows = []
    for item, path in zip(chosen, picks.tolist()):
        data = base64.b64encode(Path(item['img_path']).read_bytes()).decode()
        met = [texts[i] for i in dict.fromkeys(path)]
        met = ''.join(
            f'<li>{"<b>" if t in item["texts"] else ""}{html.escape(t)}</b></li>' for t in met
        )
        own = ''.join(f'<li>{html.escape(t)}</li>' for t in item['texts'])
        image = f'<img width="140" src="data:image/jpeg;base64,{data}">'
        rows.append(f'<tr><td>{image}</td><td><ol>{met}</ol></td><td><ol>{own}</ol></td></tr>')
    return ''.join(rows)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parse_args(argv)
    import matplotlib
    import torch

    matplotlib.use('Agg')
    with torch.no_grad():
        write_page(args)
    print(f'wrote {args.out}')


def write_page(args: argparse.Namespace) -> None:
    """Writes the page."""
    import torch

    from hyper_mm.datasets.text_chains import HierarCapsDataset
    from hyper_mm.evaluation.metrics.text_hierarchy import HierarCapsMetric
    from hyper_mm.layers.radial.radial import text_radii

    model = load_model(args)
    data = HierarCapsDataset('hierarcaps_test.csv', mode='test', data_root=str(args.data_root))
    count = min(len(data), args.images)
    items = encode(model, [data.get_data_info(i) for i in range(count)])
    scores = HierarCapsMetric().compute_metrics(items)
    radii = text_radii(torch.stack([i['text_features'] for i in items]), items[0]['root'])
    title = html.escape(f'Hierarchy of {args.model or args.config} {args.pretrained or ""}')
    table = ''.join(
        f'<tr><td>{name}</td><td>{value:.3f}</td></tr>' for name, value in scores.items()
    )
    parts = [
        '<!doctype html><meta charset="utf-8"><style>body{font:15px sans-serif;max-width:1000px;'
        'margin:2em auto}td{padding:4px 12px;vertical-align:top;border-top:1px solid #ddd}</style>',
        f'<title>{title}</title><h1>{title}</h1>',
        f'<p>{count} images. Read tau_d beside what the length of captions alone reaches.</p>',
        f'<table>{table}</table><h2>Radius by tier</h2>{figure_source(radius_figure(radii))}',
        '<h2>From general to specific</h2><p>Texts met on the way out from the root; bold: its own.'
        f'</p><table>{path_rows(items, args.examples)}</table>',
    ]
    if (args.hierarchy / 'modified').is_dir():
        tree = figure_source(tree_figure(model, args.hierarchy / 'modified'))
        parts.append(f'<h2>Class names around the root</h2>{tree}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text('\n'.join(parts), encoding='utf-8')


if __name__ == '__main__':
    main()
