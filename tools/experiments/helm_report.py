"""What the language models of compare_arms.py have learned: curvatures, and radii by specificity.

    python tools/experiments/helm_report.py work_dirs/helm_mini --data data/hierarcaps_tokens
        --arm helm-d configs/helm/helm-d_mini_hierarcaps.py
        --arm llama configs/helm/llama_mini_hierarcaps.py
        --hyperlex data/hyperlex/hyperlex-all.txt --out docs/tables/helm_radius.md

The data folder holds validation texts of four tiers, general to specific, joined by ' => '. Each
tier is given to the model as a text of its own. Radii are distances to the origin of the
hyperboloid (norms, in Euclidean baselines): of the embeddings of tokens, averaged over a text, and
of the last token behind the last block, before the final norm, which would make all radii equal.
`tau` is the mean Kendall correlation of a chain's radii with its tiers, `HyperLex` the Spearman
correlation of r(specific) - r(general) with the degree of entailment of a pair of words,
`frequency` that of the embeddings' radii with the tokens' counts in the training text. All are
means over the seeds.
Marks in the file of --out: <!-- helm_mini radii --> (last folder of the runs); see compare_arms.py.
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from compare_arms import run_folder
from rich.console import Console
from rich.progress import track
from tables import markdown, write_table

if TYPE_CHECKING:
    from torch import Tensor, nn

TIERS = 4


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('work_dir', type=Path, help='--work-dir of compare_arms.py')
    add('--data', type=Path, required=True, help='folder of token ids')
    add('--arm', nargs=2, action='append', required=True, metavar=('NAME', 'CONFIG'))
    add('--hyperlex', type=Path, help='file of word pairs')
    add('--out', type=Path, help='markdown file, written between its marks')
    return parser.parse_args()


def ids_of_split(data: Path, split: str) -> np.ndarray:
    """All ids of a split."""
    from hyper_mm.datasets.text_tokenizers import read_meta

    return np.fromfile(data / f'{split}.bin', np.dtype(read_meta(data)['dtype']).newbyteorder('<'))


def chains(data: Path, tokenizer) -> list[list[list[int]]]:
    """Ids of the tiers of each validation text that has four."""
    arrow = tokenizer.encode('=>')
    found = []
    ids = ids_of_split(data, 'val')
    for document in np.split(ids, np.flatnonzero(ids == tokenizer.eos_id) + 1):
        text = ' '.join(map(str, document[document != tokenizer.eos_id].tolist()))
        tiers = re.split(rf'\b{" ".join(map(str, arrow))}\b', text)
        tiers = [[int(i) for i in tier.split()] for tier in tiers]
        if len(tiers) == TIERS:
            tiers[0] = [i for i in tiers[0] if i != tokenizer.bos_id]
            found.append(tiers)
    if not found:
        raise ValueError(f'{data} must hold validation texts of {TIERS} tiers joined by " => "')
    return found


def word_pairs(file: Path, tokenizer) -> tuple[list[tuple[list[int], list[int], float]], int]:
    """Ids of the pairs (specific, general) with their degree; and how many have unknown tokens."""
    pairs, unknown = [], 0
    for line in file.read_text(encoding='utf-8').splitlines()[1:]:
        specific, general, _, _, score = line.split()[:5]
        try:
            pairs.append((tokenizer.encode(specific), tokenizer.encode(general), float(score)))
        except ValueError:
            unknown += 1
    return pairs, unknown


class Radii:
    """Radii of texts in one model.

    Args:
        model: A :class:`hyper_mm.HelmForCausalLM`.
        bos_id: Id that begins a text, or None.
    """

    def __init__(self, model: nn.Module, bos_id: int | None):
        import torch

        self.decoder = model.eval().decoder
        self.begin = [] if bos_id is None else [bos_id]
        curvature = getattr(self.decoder, 'curvature', None)
        self.c = None if curvature is None else curvature().detach()
        every = torch.arange(self.decoder.vocab_size)
        self.embedding = self(self.decoder.embedding(every).detach())
        self.decoder.blocks[-1].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._last = output

    def __call__(self, x: Tensor) -> Tensor:
        """Distances ``(...)`` of ``(..., d)`` to the origin."""
        from hyper_mm.ops import lorentz

        return x.norm(dim=-1) if self.c is None else lorentz.dist0(x, self.c)

    def of(self, texts: list[list[int]]) -> Tensor:
        """Radii ``(2, T)`` of texts: mean of the embeddings, last token behind the last block."""
        import torch

        with torch.no_grad():
            return self._of(texts)

    def _of(self, texts: list[list[int]]) -> Tensor:
        import torch

        found = torch.zeros(2, len(texts))
        lengths = torch.tensor([len(ids) for ids in texts])
        for length in lengths.unique().tolist():  # texts of one length at a time
            for rows in (lengths == length).nonzero()[:, 0].split(256):
                ids = torch.tensor([self.begin + texts[row] for row in rows])
                self.decoder(ids)
                found[0, rows] = self.embedding[ids[:, len(self.begin) :]].mean(1)
                found[1, rows] = self(self._last[:, -1])
        return found


def measure(model: nn.Module, data: Path, tokenizer, tiers, pairs) -> dict[str, float]:
    """Everything of one model."""
    import torch

    from hyper_mm.evaluation.functional.caption_hierarchy import spearman, tau_b

    radii = Radii(model, tokenizer.bos_id)
    numbers = {}
    by_tier = torch.stack([radii.of([chain[i] for chain in tiers]) for i in range(TIERS)], -1)
    for name, values in zip(('embedding', 'block'), by_tier):
        for i, mean in enumerate(values.mean(0).tolist(), 1):
            numbers[f'{name} {i}'] = mean
        numbers[f'{name} tau'] = tau_b(values).mean().item()
    if pairs:
        specific, general = (radii.of([pair[i] for pair in pairs]) for i in (0, 1))
        degree = torch.tensor([pair[2] for pair in pairs])
        for name, values in zip(('embedding', 'block'), specific - general):
            numbers[f'{name} HyperLex'] = spearman(values, degree)
    counts = np.bincount(ids_of_split(data, 'train'), minlength=tokenizer.vocab_size)
    seen = torch.from_numpy(counts) > 0
    numbers['frequency'] = spearman(radii.embedding[seen], torch.from_numpy(counts)[seen].float())
    return numbers


def curvatures(last: dict) -> str:
    """Curvatures of the experts in the last lines of a log, a layer each."""
    layers: dict[str, list[str]] = {}
    for name, value in last.items():
        match = re.fullmatch(r'decoder/blocks\.(\d+)\.ffn\.curvatures\.\d+', name)
        if match:
            layers.setdefault(match.group(1), []).append(f'{value:.2f}')
    return '; '.join(' '.join(values) for values in layers.values())


def seed_folders(work_dir: Path, arm: str) -> list[Path]:
    """Folders of the runs of an arm, by seed.

    Raises:
        FileNotFoundError: If there is none.
    """
    folders = sorted(run_folder(work_dir, arm, 0).parent.glob('seed*'))
    if not folders:
        raise FileNotFoundError(f'no runs of {arm} in {work_dir}')
    return folders


def finished(folder: Path) -> dict:
    """Result of a run, which must be of the key of its folder.

    Raises:
        ValueError: If it is not, or if there is none.
    """
    from hyper_mm.engine.records import folder_key, load_result

    key = folder_key(folder)
    result = load_result(folder / 'result.json', key) if key else None
    if result is None:
        raise ValueError(f'{folder} holds no finished run: call compare_arms.py again')
    return result


def report(args: argparse.Namespace) -> str:
    """The markdown tables.

    Args:
        args: What :func:`parse_args` gives.
    """
    from mmengine.config import Config
    from mmengine.registry import MODELS

    from hyper_mm.checkpoints import load_from_local
    from hyper_mm.datasets.text_tokenizers import tokenizer_of

    tokenizer = tokenizer_of(args.data)
    tiers = chains(args.data, tokenizer)
    pairs, unknown = word_pairs(args.hyperlex, tokenizer) if args.hyperlex else ([], 0)
    first = [['arm', 'parameters', 'tokens/s', 'curvatures of experts: layers; seeds']]
    second = []
    for name, config in args.arm:
        cfg = Config.fromfile(config)
        batch = cfg.train_dataloader.batch_size * (cfg.train_dataloader.dataset.length - 1)
        results, numbers = [], []
        for folder in track(seed_folders(args.work_dir, name), name):
            results.append(finished(folder))
            model = MODELS.build(cfg.model)
            checkpoint = (folder / 'last_checkpoint').read_text().strip()
            state = load_from_local(checkpoint, map_location='cpu')['state_dict']
            model.load_state_dict(state)
            numbers.append(measure(model, args.data, tokenizer, tiers, pairs))
        columns = list(numbers[0])
        size = sum(p.numel() for p in model.parameters())
        speed = batch / statistics.median(result['seconds'] for result in results)
        learned = ' · '.join(filter(None, (curvatures(r['last']) for r in results)))
        first.append([name, f'{size:,}', f'{speed:,.0f}', learned])
        means = [statistics.mean(n[column] for n in numbers) for column in columns]
        second = second or [['arm', *columns]]
        second.append([name, *(f'{mean:.3f}' for mean in means)])
    note = f'{len(tiers)} validation chains'
    if args.hyperlex:
        note += f'; {len(pairs)} HyperLex pairs, {unknown} have tokens that the text lacks'
    return '\n\n'.join([markdown(first), markdown(second), f'{note}.'])


def main() -> None:
    """Command line."""
    args = parse_args()
    text = report(args)
    Console().print(text, markup=False, soft_wrap=True)
    if args.out:
        write_table(args.out, f'{args.work_dir.resolve().name} radii', text)


if __name__ == '__main__':
    main()
