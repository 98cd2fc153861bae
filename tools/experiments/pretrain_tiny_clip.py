r"""Trains a small CLIP on PartScenes' pictures and captions: minutes on one core.

    python tools/experiments/pretrain_tiny_clip.py data/clip_mini.pt
    python tools/experiments/pretrain_tiny_clip.py other.pt --config my.py --steps 2000 --seed 1

Each picture shows one thing of a class before a background that does not depend on it. At each step
every picture of the batch gets one of its captions, from "a photo of a car." to "a street at sunset
with a red car". The loss is CLIP's, both ways, with all pictures of an equal caption as positives.
The factor of the cosines rises to CLIP's 100 during the run. Ends with the zero-shot accuracy on
pictures of its own. The checkpoint is what `build_open_clip(model, pretrained=PATH)` loads.

The same seed gives the same weights on one machine; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hyper_mm.datasets.part_scenes import Sample


CONFIG = Path(__file__).resolve().parents[2] / 'configs' / '_base_/models/clip-mini_prompted.py'
TEMPLATE = 'a photo of a {}.'
PICTURES = 1000
"""Seed of the pictures at --seed 0: data sets have small ones, and thus none of these pictures."""
SAVE_EVERY = 50


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('out', type=Path, help='checkpoint to write')
    add('--config', type=Path, default=CONFIG, help='config with the model as model.clip.model')
    add('--images', type=int, default=250, help='training pictures of each class')
    add('--test-images', type=int, default=40, help='test pictures of each class')
    add('--steps', type=int, default=1000)
    add('--batch-size', type=int, default=64)
    add('--lr', type=float, default=1e-3)
    add('--seed', type=int, default=0)
    args = parser.parse_args(arguments)
    for name in ('images', 'test_images', 'steps', 'batch_size'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    if args.seed < 0 or not args.lr > 0:
        parser.error('--seed must not be negative, and --lr must be positive')
    return args


def captions(sample: Sample) -> list[str]:
    """Captions of a picture of one thing, from general to specific.

    Args:
        sample: What :func:`hyper_mm.datasets.part_scenes.render_object` gives.

    Returns:
        Texts with the class, then also its super-class, color, parts, scene and time of day.
    """
    from hyper_mm.datasets.part_scenes import PART_CLASSES, WHOLE_TO_SUPER

    thing = sample.records[0]
    colored = f'{thing.color} {thing.whole}' if thing.color else thing.whole
    labels = np.unique(sample.parts[sample.instances == thing.id])
    parts = [PART_CLASSES[label - 1].split()[-1] for label in labels if label]
    shown = f'{colored} with {" and ".join(parts[:2])}'
    return [
        TEMPLATE.format(thing.whole),
        f'a {thing.whole}, a kind of {WHOLE_TO_SUPER[thing.whole]}.',
        TEMPLATE.format(colored),
        f'a {shown}.',
        *sample.captions[2:],
    ]


def render(
    count: int, seed: int, size: int, split: str, title: str
) -> tuple[Tensor, Tensor, list[list[str]]]:
    """Draws pictures of all classes in turn.

    Args:
        count: Pictures of each class.
        seed: Seed of the pictures.
        size: Side in pixels.
        split: ``'train'`` or ``'val'``.
        title: Text of the progress bar.

    Returns:
        Pictures ``(N, 3, size, size)`` uint8, classes ``(N)``, and the captions of each.
    """
    import torch

    from hyper_mm.datasets.part_scenes import THING_CLASSES, render_object

    images, texts = [], []
    jobs = [(i, name) for i in range(count) for name in THING_CLASSES]
    for index, name in track(jobs, title):
        sample = render_object(name, seed, index, (size, size), split)
        images.append(torch.from_numpy(sample.image).permute(2, 0, 1))
        texts.append(captions(sample))
    return torch.stack(images), torch.arange(len(jobs)) % len(THING_CLASSES), texts


def normalized(images: Tensor) -> Tensor:
    """Pictures ``(B, 3, H, W)`` uint8 as CLIP takes them."""
    import torch

    from hyper_mm.models.utils.open_clip import MEAN, STD

    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (images.float() - mean) / std


def augmented(images: Tensor, generator: torch.Generator, most: int = 4) -> Tensor:
    """Pictures mirrored at random, and moved by up to ``most`` pixels."""
    import torch

    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip.view(-1, 1, 1, 1), images.flip(-1), images)
    dy, dx = torch.randint(-most, most + 1, (2, len(images)), generator=generator).tolist()
    rolled = [image.roll(shift, (1, 2)) for image, shift in zip(images, zip(dy, dx))]
    return torch.stack(rolled)


def contrastive_loss(image: Tensor, text: Tensor, rows: Tensor, scale: float) -> Tensor:
    r"""CLIP's loss where several pictures may have one caption.

    .. math:: L = \tfrac12 \big(H(P, softmax(s\,v\,t^T)) + H(Q, softmax(s\,t\,v^T))\big)

    with P the caption of each picture, and Q uniform over the pictures of each caption.

    Args:
        image: Unit features of the pictures ``(B, D)``.
        text: Those of the captions ``(U, D)``, each there once.
        rows: The caption of each picture ``(B)``, every caption used.
        scale: Factor of the cosines.
    """
    import torch
    import torch.nn.functional as F

    logits = scale * image @ text.mT
    counts = rows.bincount(minlength=len(text))
    to_image = logits.mT.log_softmax(-1)[rows, torch.arange(len(image))] / counts[rows]
    return 0.5 * (F.cross_entropy(logits, rows) - to_image.sum() / len(text))


def zero_shot(clip: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    """Accuracy in percent of the class names as prompts."""
    import torch

    with torch.no_grad():
        return _zero_shot(clip, images, labels)


def _zero_shot(clip: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    import torch
    import torch.nn.functional as F

    from hyper_mm.datasets.part_scenes import THING_CLASSES
    from hyper_mm.models.utils.open_clip import encode_text, tokenize

    clip.eval()
    prompts = tokenize([TEMPLATE.format(name) for name in THING_CLASSES])
    text = F.normalize(encode_text(clip, prompts), dim=-1)
    found = [
        (F.normalize(clip.encode_image(normalized(part)), dim=-1) @ text.mT).argmax(-1)
        for part in images.split(128)
    ]
    return 100 * (torch.cat(found) == labels).float().mean().item()


def train(args: argparse.Namespace) -> float:
    """Trains, or goes on with training, and writes the checkpoint.

    Returns:
        Zero-shot accuracy in percent on held-out pictures.
    """
    import torch
    import torch.nn.functional as F
    from mmengine.config import Config

    from hyper_mm.engine.records import code_digest
    from hyper_mm.models.utils.open_clip import build_open_clip, encode_text, tokenize

    model = Config.fromfile(args.config).model.clip.model.to_dict()
    size = model['vision_cfg']['image_size']
    torch.manual_seed(args.seed)
    clip = build_open_clip(model)
    seed = PICTURES + args.seed
    images, _, texts = render(args.images, seed, size, 'train', 'drawing pictures')
    tests, labels, _ = render(args.test_images, seed, size, 'val', 'drawing test pictures')
    lookup = {text: i for i, text in enumerate(sorted({t for own in texts for t in own}))}
    tokens = tokenize(list(lookup))
    chosen = torch.tensor([[lookup[text] for text in own] for own in texts])

    clip.logit_scale.requires_grad_(False)
    decayed = [p for p in clip.parameters() if p.ndim > 1 and p.requires_grad]
    others = [p for p in clip.parameters() if p.ndim <= 1 and p.requires_grad]
    groups = [dict(params=decayed, weight_decay=0.1), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))
    asked = {k: v for k, v in vars(args).items() if k != 'out'}
    asked.update(config=model, code=code_digest())
    partial, start = args.out.with_suffix('.partial.pt'), 0
    if partial.is_file():
        state = torch.load(partial, weights_only=True)
        if state['asked'] != asked:
            raise ValueError(
                f'{partial} is of a run with other arguments or code: delete it, or finish it'
            )
        clip.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        start = state['step']

    clip.train()
    for step in track(range(start, args.steps), 'training'):
        draw = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        rate = min((step + 1) / 50, 0.5 + 0.5 * math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group['lr'] = args.lr * rate
        scale = 15.0 * (100 / 15) ** (step / args.steps)
        batch = torch.randperm(len(images), generator=draw)[: args.batch_size]
        column = torch.randint(chosen.shape[1], (len(batch),), generator=draw)
        unique, rows = chosen[batch, column].unique(return_inverse=True)
        image = clip.encode_image(normalized(augmented(images[batch], draw)), normalize=True)
        text = F.normalize(encode_text(clip, tokens[unique]), dim=-1)
        loss = contrastive_loss(image, text, rows, scale)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0:
            asked_for = dict(asked=asked, step=step + 1, optimizer=optimizer.state_dict())
            save(dict(asked_for, model=clip.state_dict()), partial)
            if (step + 1) % (2 * SAVE_EVERY) == 0:
                accuracy = zero_shot(clip, tests, labels)
                clip.train()
                print(f'step {step + 1}: loss {loss.item():.3f}, zero-shot {accuracy:.1f} %')
    clip.logit_scale.fill_(math.log(100))
    save(dict(state_dict=clip.state_dict(), asked=asked), args.out)
    partial.unlink(missing_ok=True)
    return zero_shot(clip, tests, labels)


def save(state: dict, file: Path) -> None:
    """Writes a checkpoint in one step."""
    import torch

    from hyper_mm.engine.records import write_bytes

    with io.BytesIO() as stream:
        torch.save(state, stream)
        write_bytes(file, stream.getbuffer())


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    args = parse_args(arguments)
    from hyper_mm.datasets.part_scenes import THING_CLASSES
    from hyper_mm.engine.records import FolderLock

    with FolderLock(args.out):
        accuracy = train(args)
    chance = 100 / len(THING_CLASSES)
    print(f'{args.out}: zero-shot accuracy {accuracy:.1f} %, chance {chance:.1f} %')


if __name__ == '__main__':
    main()
