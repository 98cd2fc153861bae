"""Pictures of segmentations: overlays, maps of confidence, and comparisons."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hyper_mm.layers.meta.boundary_contrast import boundary_bands

IGNORED = 255
TRUTH, FOUND = (0, 158, 115), (213, 94, 0)
"""Colors of outlines, green and orange, which those who are blind to red and green tell apart."""


def load_rgb(load: dict, path: str | Path) -> np.ndarray:
    """An image as the model is given it, ``(H, W, 3)`` uint8, RGB.

    Args:
        load: Config of the loading transform.
        path: The file.
    """
    from hyper_mm.registry import TRANSFORMS

    image = TRANSFORMS.build(load)(dict(img_path=str(path)))['img']
    return image[..., ::-1].clip(0, 255).astype(np.uint8)


def outline(labels: np.ndarray, width: int = 1) -> np.ndarray:
    """Pixels of each class but 0 that touch another one, as a boolean map.

    Args:
        labels: Label map ``(H, W)``.
        width: Of the outline in pixels.
    """
    found = np.zeros(labels.shape, bool)
    for k in np.unique(labels):
        if k not in (0, IGNORED):
            mask = torch.from_numpy(labels == k)
            found |= boundary_bands(mask, erode=width).boundary.numpy()
    return found


def overlay(image: np.ndarray, labels: np.ndarray, palette: Sequence) -> np.ndarray:
    """An image with the classes but 0 in their colors, and their outlines.

    Args:
        image: ``(H, W, 3)``, RGB.
        labels: Label map ``(H, W)``.
        palette: RGB of each class.
    """
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(palette)] = palette
    shown = (labels > 0) & (labels != IGNORED)
    mixed = np.where(shown[..., None], 0.6 * image + 0.4 * colors[labels], image)
    edge = outline(labels)[..., None]
    return np.where(edge, colors[labels], mixed).astype(np.uint8)


def outlines(image: np.ndarray, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """An image with the outlines of the labels (green) and of a prediction (orange).

    Args:
        image: ``(H, W, 3)``, RGB.
        truth: Label map.
        found: Label map of the prediction.
    """
    result, width = image.copy(), max(1, min(image.shape[:2]) // 200)
    for labels, color in ((truth, TRUTH), (found, FOUND)):
        result[outline(labels, width)] = color
    return result


def as_data_uri(image: np.ndarray, side: int = 360) -> str:
    """An image as text that a page holds, at most ``side`` pixels wide and high.

    Args:
        image: RGB or gray, uint8.
        side: Greatest side in pixels.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    stream = io.BytesIO()
    picture.convert('RGB').save(stream, 'JPEG', quality=88)
    return 'data:image/jpeg;base64,' + base64.b64encode(stream.getvalue()).decode()


def confidence(logits: torch.Tensor) -> np.ndarray:
    """Probability of the chosen class at each pixel, 0 to 1, ``(H, W)``.

    It is the model's own opinion: a network that was never shown such images may be sure and wrong.

    Args:
        logits: Of a segmentor, ``(C, H, W)``; one channel is taken through a sigmoid.
    """
    logits = logits.float()
    if len(logits) == 1:
        p = logits[0].sigmoid()
        return torch.maximum(p, 1 - p).numpy()
    return logits.softmax(0).amax(0).numpy()


def compare(path: Path, image: np.ndarray, truth, before, after, scores, palette, name) -> None:
    """Draws an image, its labels, and the predictions before and after the adaptation.

    Args:
        path: File that is written.
        image: RGB.
        truth: Label map.
        before: Label map of the prediction before.
        after: Label map of the prediction after.
        scores: Dice before and after.
        palette: RGB of each class.
        name: Title of the image.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    titles = [name, 'labels', *(f'{n}, Dice {s:.1f}' for n, s in zip(('before', 'after'), scores))]
    shown = [image, *(overlay(image, labels, palette) for labels in (truth, before, after))]
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.9))
    for axis, picture, title in zip(axes, shown, titles):
        axis.imshow(picture)
        axis.set_title(title)
        axis.axis('off')
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
