"""Radial embeddings and their relatives on MiniLM, a sentence encoder with real weights.

    python tools/experiments/radial_arms.py --work-dir work_dirs/radial_arms
        --out docs/tables/radial_minilm.md
    python tools/experiments/radial_arms.py --arms untuned radial --seeds 0 --steps 4

The text tower is LiteCLIP's, before its projection; it is trained on caption chains of HierarCaps'
expanded set whose images are not in the test set, by the loss of each arm with its regularizer.
Scored are the order of the radii of the test captions (`tau_d`; caption lengths reach 0.913),
HyperLex (all pairs), and what must not be lost: captions of COCO found by others of their image,
and with LiteCLIP's projection and images, captions by images and back. The walks of HierarCaps
(precision, recall) take radii of the tower and similarities of LiteCLIP.

Each arm takes the learning rate of a grid that has the highest `tau_d` on 300 chains that are not
trained on, of those that lose at most a point of retrieval among captions of COCO's training part;
where none does, the least. None of these texts is reported. Dropout is off. Runs are kept, and
used again where options and code are the same.

A second table is of the tower as it is, with the root at other places: the empty text (the paper),
the mean of the most general captions of the training chains, that of all of them, and the point
that orders them best (found by gradient descent). The arm `radial, mean root` is trained around the
second of these, which then stays where it is.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import statistics
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tables import command, markdown, standard_error, versions, write_table

if TYPE_CHECKING:
    from torch import Tensor, nn

RADIAL = dict(type='hyper_mm.RadialEmbeddingLoss')
RATES = (1e-5, 3e-5, 1e-4)
ARMS: dict[str, dict] = {
    'untuned': {},
    'radial': dict(loss=RADIAL),
    'radial, mean root': dict(loss=RADIAL, root='mean'),
    'cone': dict(loss=dict(type='hyper_mm.EntailmentConeLoss')),
    'Lorentz': dict(loss=dict(RADIAL, geometry='lorentz')),
    'Poincare': dict(loss=dict(RADIAL, geometry='poincare')),
    'adapter': dict(
        loss=RADIAL,
        adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=32, towers=('text',)),
        rates=(1e-3, 3e-3, 1e-2),
    ),
}
"""Loss, adapter (None: the whole tower is trained), root and learning rates of each arm."""
COLUMNS = {
    'tau_d': 'tau_d',
    'rho': 'HyperLex rho',
    'rho_nouns': 'nouns',
    'precision': 'P',
    'recall': 'R',
    't2t': 'caption to caption R@1',
    'i2t': 'image to caption R@5',
    't2i': 'caption to image R@5',
}
"""Scores and their names in the table."""
PROMPT = 'a photo of a {}.'
LONGEST = 40
"""Tokens of a text; the few longer ones are cut."""


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--arms', nargs='+', default=list(ARMS), help='names of arms')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--tune-seed', type=int, default=100)
    parser.add_argument('--steps', type=int, default=60)
    parser.add_argument('--batch', type=int, default=8, help='chains a step')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--data', type=Path, help='folder of hierarcaps, hyperlex and coco_mini')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/radial_arms'))
    parser.add_argument('--out', type=Path, help='markdown file, written between its marks')
    args = parser.parse_args()
    unknown = [arm for arm in args.arms if arm not in ARMS]
    if unknown:
        parser.error(f'--arms must be some of {list(ARMS)}, got {unknown}')
    return args


class Data:
    """All texts and, once a model has seen them, images.

    Args:
        folder: Folder of the data sets.
        work_dir: Where HyperLex is unpacked.
    """

    def __init__(self, folder: Path, work_dir: Path) -> None:
        from hyper_mm.datasets.coco_captions import CocoCaptionsDataset
        from hyper_mm.datasets.text_chains import HierarCapsDataset, HyperLexDataset

        chains = HierarCapsDataset(
            'hierarcaps_test_expanded.csv.gz',
            data_root=str(folder / 'hierarcaps'),
            exclude_images_of='hierarcaps_test.csv',
            lazy_init=True,
        ).load_data_list()
        random.Random(0).shuffle(chains)
        self.held, self.chains = chains[:300], chains[300:]
        self.test = HierarCapsDataset(
            'hierarcaps_test.csv',
            mode='test',
            data_root=str(folder / 'hierarcaps'),
            lazy_init=True,
        ).load_data_list()
        words = work_dir / 'hyperlex-all.txt'
        if not words.is_file():
            words.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(folder / 'hyperlex' / 'hyperlex-data.zip') as file:
                words.write_bytes(file.read(words.name))
        self.pairs = HyperLexDataset(str(words), lazy_init=True).load_data_list()
        self.coco = {
            split: CocoCaptionsDataset(
                f'annotations/captions_{split}2017.json',
                data_root=str(folder / 'coco_mini'),
                data_prefix=dict(img_path=f'{split}2017'),
                lazy_init=True,
            ).load_data_list()
            for split in ('train', 'val')
        }
        self.images: dict[str, Tensor] = {}

    def read_images(self, clip: nn.Module, preprocess, file: Path) -> None:
        """Unit features of the images of the test captions and of COCO's validation part.

        Args:
            clip: The model.
            preprocess: Image to tensor.
            file: Where they are kept for the next time.
        """
        import torch
        from PIL import Image
        from torch.nn.functional import normalize

        if file.is_file():
            self.images = torch.load(file, weights_only=True)
            return
        for name, items in (('test', self.test), ('val', self.coco['val'])):
            rows = []
            for item in items:
                image = preprocess(Image.open(item['img_path']))[None]
                with torch.no_grad():
                    rows.append(clip.encode_image(image)[0])
            self.images[name] = normalize(torch.stack(rows), dim=-1)
        torch.save(self.images, file)


def encode(clip: nn.Module, texts: list[str], chunk: int = 128) -> Tensor:
    """Unit features ``(N, E)`` of texts by the tower without its projection."""
    import torch
    from torch.nn.functional import normalize

    tower = clip.text
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = []
    for start in range(0, len(order), chunk):
        part = [texts[i] for i in order[start : start + chunk]]
        tokens = clip.tokenizer(part, allow_empty=True, truncate=True)[:, :LONGEST]
        mask = (tokens != tower.config.pad_token_id).long()
        found.append(tower.pooler(tower.transformer(input_ids=tokens, attention_mask=mask), mask))
    places = torch.empty(len(order), dtype=torch.long)
    places[order] = torch.arange(len(order))
    return normalize(torch.cat(found), dim=-1)[places]


class Features:
    """Features of texts that are encoded once.

    Args:
        clip: The model; its weights must not change.
    """

    def __init__(self, clip: nn.Module) -> None:
        self.clip, self.known = clip, {}

    def __call__(self, texts: list[str]) -> Tensor:
        """Unit features ``(N, E)``."""
        import torch

        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            with torch.no_grad():
                self.known.update(zip(new, encode(self.clip, new)))
        return torch.stack([self.known[text] for text in texts])

    def chains(self, items: list[dict], key: str = 'texts') -> Tensor:
        """Unit features ``(N, T, E)`` of caption chains."""
        return self([text for item in items for text in item[key]]).unflatten(0, (len(items), -1))


def order_of(features: Features, items: list[dict], root: Tensor) -> float:
    """Mean Kendall correlation of radii and tiers."""
    from hyper_mm.evaluation.functional.caption_hierarchy import radius_order
    from hyper_mm.layers.radial.radial import text_radii

    return radius_order(text_radii(features.chains(items), root)).mean().item()


def entailment(features: Features, pairs: list[dict], root: Tensor, template: str) -> float:
    """Spearman correlation of HyperLex and the angle at the general word."""
    import torch

    from hyper_mm.evaluation.functional.caption_hierarchy import spearman
    from hyper_mm.layers.radial.radial import RadialGeometry

    texts = [template.format(word) for pair in pairs for word in pair['texts']]
    specific, general = features(texts).unflatten(0, (len(pairs), 2)).unbind(1)
    space = RadialGeometry()
    angle = space.exterior_angle(space.place(general, root), space.place(specific, root))
    return spearman(-angle, torch.tensor([pair['score'] for pair in pairs]))


def same_image(features: Features, items: list[dict]) -> float:
    """Captions, in percent, whose nearest other one is of the same image."""
    import torch

    texts = [text for item in items for text in item['texts']]
    image = torch.tensor([i for i, item in enumerate(items) for _ in item['texts']])
    found = features(texts)
    similarity = (found @ found.T).fill_diagonal_(-2)
    return 100 * (image[similarity.argmax(1)] == image).float().mean().item()


def walks(features: Features, data: Data, root: Tensor) -> dict[str, float]:
    """Precision and recall of HierarCaps' walks."""
    import torch
    from torch.nn.functional import normalize

    from hyper_mm.evaluation.functional.caption_hierarchy import radius_levels, score_walks, walk
    from hyper_mm.layers.radial.radial import text_radii

    texts = [text for item in data.test for text in item['texts']]
    distinct = list(dict.fromkeys(texts))
    rows = {text: row for row, text in enumerate(distinct)}
    found = features(distinct)
    with torch.no_grad():
        joint = normalize(features.clip.text.proj(found), dim=-1)
    radii = text_radii(found, root)
    numbers = torch.tensor([rows[text] for text in texts]).view(len(data.test), -1)
    picks = walk(data.images['test'] @ joint.T, radii, radius_levels(radii))
    scores = score_walks(picks, numbers, torch.arange(len(data.test)))
    return dict(precision=scores.precision.mean().item(), recall=scores.recall.mean().item())


def recall(features: Features, data: Data) -> dict[str, float]:
    """Images and captions of COCO's validation part, found by each other, in percent."""
    import torch
    from torch.nn.functional import normalize

    from hyper_mm.evaluation.functional.caption_hierarchy import retrieval_ranks

    items = data.coco['val']
    texts = features([text for item in items for text in item['texts']])
    image = torch.tensor([i for i, item in enumerate(items) for _ in item['texts']])
    with torch.no_grad():
        joint = normalize(features.clip.text.proj(texts), dim=-1)
    ranks = retrieval_ranks(data.images['val'] @ joint.T, image)
    return {
        name: 100 * (rank < 5).float().mean().item()
        for name, rank in (('i2t', ranks.texts), ('t2i', ranks.images))
    }


def score(features: Features, data: Data, root: Tensor) -> dict[str, float]:
    """All reported scores; see :data:`COLUMNS`."""
    nouns = [pair for pair in data.pairs if pair['pos'] == 'N']
    return dict(
        tau_d=order_of(features, data.test, root),
        rho=entailment(features, data.pairs, root, '{}'),
        rho_nouns=entailment(features, nouns, root, '{}'),
        **walks(features, data, root),
        t2t=same_image(features, data.coco['val']),
        **recall(features, data),
    )


def general_mean(frozen: Features, data: Data, tiers: int = 1) -> Tensor:
    """Unit mean of the most general captions of 1000 chains, as the tower is without training."""
    from torch.nn.functional import normalize

    found = frozen.chains(data.chains[:1000])[:, :tiers]
    return normalize(found.flatten(0, 1).mean(0), dim=-1)


def fitted_root(frozen: Features, data: Data) -> Tensor:
    """The point that orders the tiers of 1000 chains best: of the least logistic loss."""
    import torch
    from torch.nn.functional import normalize, softplus

    from hyper_mm.layers.radial.radial import text_radii

    chains = frozen.chains(data.chains[:1000])
    root = general_mean(frozen, data).clone().requires_grad_()
    optimizer = torch.optim.Adam([root], 0.01)
    for _ in range(100):
        radii = text_radii(chains, normalize(root, dim=-1))
        loss = softplus(-radii.diff(dim=1) / 0.05).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return normalize(root.detach(), dim=-1)


def by_tier(features: Tensor, batch: int) -> Tensor:
    """Features ``(2, T, B, E)`` of chains, the positive ones first, that follow each other."""
    return features.view(2, batch, -1, features.shape[-1]).transpose(1, 2)


def run(
    frozen: Features, arm: str, rate: float, seed: int, data: Data, args: argparse.Namespace,
    tuning: bool,
) -> dict:  # fmt: skip
    """Trains and scores an arm.

    Args:
        frozen: Features of the model, which is not changed.
        arm: Name of the arm.
        rate: Learning rate.
        seed: Seed of the order of the chains and of initial values.
        data: All texts and images.
        args: The command line.
        tuning: Whether to score the part that is not reported.

    Returns:
        Scores, number of trained parameters, and seconds of a step.
    """
    import torch

    from hyper_mm.registry import MODELS

    torch.manual_seed(seed)
    config = ARMS[arm]
    clip = copy.deepcopy(frozen.clip).requires_grad_(False)
    trained, seconds = [], []
    if config:
        if 'adapter' in config:
            trained = list(MODELS.build(config['adapter']).attach(clip).parameters())
        else:
            trained = list(clip.text.transformer.requires_grad_(True).parameters())
        loss_of = MODELS.build(config['loss'])
        optimizer = torch.optim.AdamW(trained, rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rate, total_steps=args.steps, pct_start=0.1
        )
    mean_root = general_mean(frozen, data) if config.get('root') == 'mean' else None
    chains = random.Random(seed).sample(data.chains, args.steps * args.batch)
    for step in range(args.steps if config else 0):
        start = time.perf_counter()
        items = chains[step * args.batch : (step + 1) * args.batch]
        texts = [text for key in ('texts', 'negatives') for item in items for text in item[key]]
        target = frozen(texts)
        found = encode(clip, [*texts, ''], chunk=22)
        root = found[-1] if mean_root is None else mean_root
        losses = loss_of(by_tier(found[:-1], args.batch), root, by_tier(target, args.batch))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        seconds.append(time.perf_counter() - start)
    clip.requires_grad_(False)
    features = Features(clip) if config else frozen
    root = features([''])[0] if mean_root is None else mean_root
    if tuning:
        scores = dict(
            tau_d=order_of(features, data.held, root), t2t=same_image(features, data.coco['train'])
        )
    else:
        scores = score(features, data, root)
    count = sum(p.numel() for p in trained)
    return dict(scores, trained=count, seconds=statistics.median(seconds or [0.0]))


def lengths(data: Data) -> dict[str, float]:
    """``tau_d`` of the lengths of the test captions, in words and in characters."""
    import torch

    from hyper_mm.evaluation.functional.caption_hierarchy import tau_b

    parts = dict(words=lambda text: len(text.split()), characters=len)
    return {
        name: tau_b(torch.tensor([[count(t) for t in x['texts']] for x in data.test])).mean().item()
        for name, count in parts.items()
    }


def main() -> None:
    """Command line."""
    args = parse_args()
    import torch

    from hyper_mm import lite_clip
    from hyper_mm.engine.records import key_of, load_result, save_result

    torch.set_num_threads(args.threads)
    clip, preprocess, _ = lite_clip()
    clip.eval().requires_grad_(False)
    data = Data(args.data or Path(os.environ.get('HYPER_MM_DATA', 'data')), args.work_dir)
    data.read_images(clip, preprocess, args.work_dir / 'images.pt')
    frozen = Features(clip)

    def result(arm: str, rate: float, seed: int, tuning: bool) -> dict:
        options = dict(steps=args.steps, batch=args.batch, arm=ARMS[arm], rate=rate, seed=seed)
        part = 'tune' if tuning else 'test'
        key = key_of(dict(options, part=part))
        file = args.work_dir / part / f'{list(ARMS).index(arm)}_{rate:g}_{seed}.json'
        found = load_result(file, key)
        if found is None:
            found = run(frozen, arm, rate, seed, data, args, tuning)
            save_result(file, key, found)
        print(part, arm, f'lr {rate:g} seed {seed}:', json.dumps(found), flush=True)
        return found

    before = same_image(frozen, data.coco['train'])
    own, best = {}, {}
    for arm in args.arms:
        best[arm] = 0.0
        if ARMS[arm]:
            rates = ARMS[arm].get('rates', RATES)
            tuned = {rate: result(arm, rate, args.tune_seed, True) for rate in rates}
            kept = [rate for rate in rates if tuned[rate]['t2t'] >= before - 1] or [min(rates)]
            best[arm] = max(kept, key=lambda rate: tuned[rate]['tau_d'])
        seeds = args.seeds if ARMS[arm] else args.seeds[:1]
        own[arm] = [result(arm, best[arm], seed, False) for seed in seeds]
    text = page(args, data, frozen, own, best)
    print(text)
    if args.out:
        write_table(args.out, 'radial_arms', text)


def page(args, data: Data, frozen: Features, own: dict, best: dict) -> str:
    """Both tables, and what produced them."""
    rows = [['arm', 'trained', 'lr', *COLUMNS.values(), 's/step']]
    gains = [['against untuned', *COLUMNS.values()]]
    for arm, found in own.items():
        values = [standard_error([x[c] for x in found], digits(c)) for c in COLUMNS]
        seconds = statistics.median(x['seconds'] for x in found)
        shown = [f'{best[arm]:g}', f'{seconds:.2f}'] if best[arm] else ['', '']
        rows.append([arm, f'{found[0]["trained"]:,}', shown[0], *values, shown[1]])
        if best[arm] and 'untuned' in own:
            base = own['untuned'][0]
            gains.append(
                [
                    arm,
                    *(standard_error([x[c] - base[c] for x in found], digits(c)) for c in COLUMNS),
                ]
            )
    roots = {
        'empty text (the paper)': frozen([''])[0],
        'mean of the most general captions': general_mean(frozen, data),
        'mean of all captions': general_mean(frozen, data, 4),
        'the one that orders best': fitted_root(frozen, data),
    }
    columns = [c for c in COLUMNS if c not in ('t2t', 'i2t', 't2i')]
    emergent = [['root of the untuned tower', *(COLUMNS[c] for c in columns), f'rho, "{PROMPT}"']]
    for name, root in roots.items():
        found = score(frozen, data, root)
        prompted = entailment(frozen, data.pairs, root, PROMPT)
        shown = [f'{found[c]:.{digits(c)}f}' for c in columns]
        emergent.append([name, *shown, f'{prompted:.3f}'])
    counted = ', '.join(f'{value:.3f} by {name}' for name, value in lengths(data).items())
    parts = [markdown(rows)] + ([markdown(gains)] if len(gains) > 1 else [])
    parts += [f'`tau_d` of the lengths of the captions: {counted}.', markdown(emergent)]
    return '\n\n'.join([*parts, command(), f'{versions()}; {args.threads} threads.'])


def digits(column: str) -> int:
    """Decimals of a score: recalls are in percent."""
    return 1 if column in ('t2t', 'i2t', 't2i') else 3


if __name__ == '__main__':
    main()
