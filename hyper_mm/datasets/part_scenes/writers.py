"""Write PartScenes in the folder layouts that the OpenMMLab libraries read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from .coco import panoptic_map, segments_info, thing_annotations, whole_categories
from .scene import SPLITS, check_int, check_size, render_object, render_scene, scene_class
from .taxonomy import SCENE_CLASSES, THING_CLASSES

VERSION = 1
"""Raise it whenever the pictures of a given seed change."""
MANIFEST = 'manifest.json'
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Job:
    """What to write: sizes, seed, and the numbers of images by split."""

    num_train: int
    num_val: int
    size: tuple[int, int]
    seed: int

    @property
    def counts(self) -> dict[str, int]:
        return {split: n for split, n in zip(SPLITS, (self.num_train, self.num_val)) if n > 0}

    def manifest(self, name: str) -> dict:
        parameters = {**asdict(self), 'size': list(self.size)}
        return {'generator': 'part_scenes', 'version': VERSION, 'format': name, **parameters}


def generate(
    out_dir: str | os.PathLike,
    formats: Sequence[str] = ('ade',),
    num_train: int = 200,
    num_val: int = 50,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Path]:
    """Write PartScenes to `out_dir/<format>` for each format.

    A finished set of the same parameters is left as it is, and an interrupted one is continued.

    Args:
        out_dir: Folder to write to, made where missing.
        formats: Any of `'ade'` (parts and wholes, semantic), `'coco'` (instances, panoptic and
            captions of the same pictures) and `'imagenet'` (one thing in each picture).
        num_train: Number of training images of each format.
        num_val: Number of validation images of each format.
        size: Height and width in pixels.
        seed: Seed of the data set.
        overwrite: Whether to replace a set that is there already.
        progress: Whether to show progress bars.

    Returns:
        The folder of each format.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If an argument is out of range.
        FileExistsError: If a folder holds something else, or, without `overwrite`, a set of other
            parameters. Nothing is written then.
    """
    if isinstance(formats, str) or not formats:
        raise ValueError(
            f'formats must be a non-empty sequence of {tuple(FORMATS)}, got {formats!r}'
        )
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f'formats must be among {tuple(FORMATS)}, got {name!r}')
    job = _Job(
        check_int('num_train', num_train, 0),
        check_int('num_val', num_val, 0),
        check_size(size),
        check_int('seed', seed, 0),
    )
    if not job.counts:
        raise ValueError('num_train and num_val must not both be 0')
    if 'imagenet' in formats and min(job.counts.values()) < len(THING_CLASSES):
        raise ValueError(
            f'num_train and num_val must each be 0 or at least {len(THING_CLASSES)} (one image of '
            f'every class) for the format imagenet, got {num_train} and {num_val}'
        )
    folders = {name: Path(out_dir) / name for name in formats}
    finished = {name: _is_finished(folders[name], name, job, overwrite) for name in folders}
    for name, folder in folders.items():
        if not finished[name]:
            _write_set(folder, name, job, overwrite, progress)
    return folders


def _is_finished(folder: Path, name: str, job: _Job, overwrite: bool) -> bool:
    """Whether there is nothing to do; raises where `folder` must not be touched."""
    path = folder / MANIFEST
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(
                f'{folder} is not empty and holds no {MANIFEST}: not written by us'
            )
        return False
    try:
        there = json.loads(path.read_text(encoding='utf-8'))
        complete = there.pop('complete')
        is_ours = there['generator'] == 'part_scenes'
    except (ValueError, KeyError, TypeError, AttributeError):
        is_ours = False
    if not is_ours:
        raise FileExistsError(f'{path} is not a manifest of PartScenes')
    wanted = job.manifest(name)
    if overwrite:
        return False
    if there != wanted:
        differs = [
            f'{key}: {there.get(key)!r} there, {wanted.get(key)!r} asked for'
            for key in sorted({*there, *wanted})
            if there.get(key) != wanted.get(key)
        ]
        raise FileExistsError(
            f'{folder} holds a set of other parameters ({"; ".join(differs)}); '
            'choose another folder, or overwrite it (--overwrite)'
        )
    return bool(complete)


def _write_set(folder: Path, name: str, job: _Job, overwrite: bool, progress: bool) -> None:
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = job.manifest(name)
    _write_json(folder / MANIFEST, {**manifest, 'complete': False}, indent=2)
    FORMATS[name](folder, job, progress)
    _write_json(folder / MANIFEST, {**manifest, 'complete': True}, indent=2)


def _write_ade(folder: Path, job: _Job, progress: bool) -> None:
    """ADE20K layout: parts in annotations/, wholes in annotations_wholes/, scenes as a list."""
    for split, count in job.counts.items():
        long = {'train': 'training', 'val': 'validation'}[split]
        images = folder / 'images' / long
        lines = []
        for i in _track(range(count), f'ade {split}', progress):
            stem = f'{split}_{i:06d}'
            lines.append(f'{stem}.jpg {SCENE_CLASSES.index(scene_class(job.seed, i, split))}\n')
            if (images / f'{stem}.jpg').exists():
                continue
            sample = render_scene(job.seed, i, job.size, split)
            _write_image(folder / 'annotations' / long / f'{stem}.png', sample.parts)
            _write_image(folder / 'annotations_wholes' / long / f'{stem}.png', sample.wholes)
            _write_image(images / f'{stem}.jpg', sample.image)
        _write(folder / 'scenes' / f'{long}.txt', ''.join(lines).encode())
    _write(folder / 'scenes' / 'classes.txt', '\n'.join(SCENE_CLASSES).encode() + b'\n')


def _write_coco(folder: Path, job: _Job, progress: bool) -> None:
    """COCO layout: instances, panoptic segments and captions; their files come last."""
    for split, count in job.counts.items():
        images, things, segments, captions = [], [], [], []
        for i in _track(range(count), f'coco {split}', progress):
            stem, sample = f'{split}_{i:06d}', render_scene(job.seed, i, job.size, split)
            image = {'id': i + 1, 'file_name': f'{stem}.jpg'}
            images.append({**image, 'height': job.size[0], 'width': job.size[1]})
            things += thing_annotations(sample, image['id'], len(things) + 1)
            info = segments_info(sample)
            segments.append({'image_id': i + 1, 'file_name': f'{stem}.png', 'segments_info': info})
            captions += [
                {'id': len(captions) + tier, 'image_id': i + 1, 'caption': text, 'tier': tier}
                for tier, text in enumerate(sample.captions, 1)
            ]
            if not (folder / split / f'{stem}.jpg').exists():
                ids = panoptic_map(sample)
                colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
                place = folder / 'annotations' / f'panoptic_{split}' / f'{stem}.png'
                _write_image(place, colors.astype(np.uint8))
                _write_image(folder / split / f'{stem}.jpg', sample.image)
        categories = whole_categories()
        thing_categories = [
            {k: c[k] for k in ('id', 'name', 'supercategory')} for c in categories if c['isthing']
        ]
        parts = {
            'instances': {'annotations': things, 'categories': thing_categories},
            'panoptic': {'annotations': segments, 'categories': categories},
            'captions': {'annotations': captions},
        }
        about = {'description': f'PartScenes, seed {job.seed}', 'version': str(VERSION)}
        for kind, content in parts.items():
            path = folder / 'annotations' / f'{kind}_{split}.json'
            _write_json(path, {'info': about, 'licenses': [], 'images': images, **content})


def _write_imagenet(folder: Path, job: _Job, progress: bool) -> None:
    """ImageNet folders: the thing classes in turn; classes.txt in the order of the folders."""
    for split, count in job.counts.items():
        for i in _track(range(count), f'imagenet {split}', progress):
            number, k = divmod(i, len(THING_CLASSES))
            name = THING_CLASSES[k]
            path = folder / split / name / f'{split}_{number:06d}.jpg'
            if not path.exists():
                _write_image(path, render_object(name, job.seed, number, job.size, split).image)
    _write(folder / 'classes.txt', '\n'.join(sorted(THING_CLASSES)).encode() + b'\n')


FORMATS: dict[str, Callable[[Path, _Job, bool], None]] = {
    'ade': _write_ade,
    'coco': _write_coco,
    'imagenet': _write_imagenet,
}


def _track(items: Iterable, description: str, progress: bool) -> Iterable:
    if not progress:
        return items
    from rich.progress import track

    return track(items, description=description)


def _write_image(path: Path, image: np.ndarray) -> None:
    """Write a label map or an RGB image, in the encoding that the suffix names."""
    pixels = image if image.ndim == 2 else image[..., ::-1]
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == '.jpg' else []
    ok, data = cv2.imencode(path.suffix, pixels, options)
    if not ok:
        raise OSError(f'could not encode {path}')
    _write(path, data.tobytes())


def _write_json(path: Path, content: dict, **style) -> None:
    _write(path, json.dumps(content, **style).encode())


def _write(path: Path, data: bytes) -> None:
    """Write a file in one step, so that an interruption leaves no half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'{path.name}.part')
    unfinished.write_bytes(data)
    os.replace(unfinished, path)
