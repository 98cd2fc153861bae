"""Colors of a tree: a hue for each family, shades of it for the descendants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HUES = (255.0, 60.0, 165.0, 345.0, 105.0, 205.0, 25.0, 300.0)
"""Hues in degrees (OKLCH): blue, orange, green, pink, ... The order keeps the first few apart for
color-blind eyes, too; families beyond these go round the circle by the golden angle."""
LIGHTNESS = (0.48, 0.90)
CHROMA = 0.14
HUE_SPREAD = 36.0


def oklch_to_srgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Converts from OKLCH, in which equal steps look equal, and lowers the chroma to fit sRGB.

    Args:
        lightness: In [0, 1], any shape.
        chroma: Not negative, same shape.
        hue: In degrees, same shape.

    Returns:
        sRGB in [0, 1], of shape `(..., 3)`.
    """
    angle = np.deg2rad(hue)
    for scale in np.linspace(1, 0, 41):  # the first scale that fits serves all: families stay equal
        a, b = scale * chroma * np.cos(angle), scale * chroma * np.sin(angle)
        lms = np.stack(
            [
                lightness + 0.3963377774 * a + 0.2158037573 * b,
                lightness - 0.1055613458 * a - 0.0638541728 * b,
                lightness - 0.0894841775 * a - 1.2914855480 * b,
            ],
            -1,
        )
        linear = lms**3 @ np.array(
            [
                [4.0767416621, -1.2684380046, -0.0041960863],
                [-3.3077115913, 2.6097574011, -0.7034186147],
                [0.2309699292, -0.3413193965, 1.7076147010],
            ]
        )
        if linear.min() > -1e-3 and linear.max() < 1 + 1e-3:
            break
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def check_tree(nodes: Sequence[int]) -> None:
    """Checks that nodes by level, leaves first, form complete trees with equal branching.

    Args:
        nodes: Nodes of each level.

    Raises:
        ValueError: If there is no level, or a level does not divide the one below.
    """
    if not nodes or min(nodes) < 1:
        raise ValueError(f'nodes must be positive numbers, one a level, got {tuple(nodes)}')
    for below, above in zip(nodes, nodes[1:]):
        if below % above:
            raise ValueError(
                f'nodes must go from the leaves to the top, each level dividing the one before, '
                f'got {tuple(nodes)}'
            )


def tree_colors(nodes: Sequence[int]) -> list[np.ndarray]:
    """Colors of the nodes of a tree.

    A node of the top level owns a hue and a range from dark to light; its children share the range
    out among them, and so on. The color of a node is the middle of its range, and so the middle of
    its children's.

    Args:
        nodes: Nodes of each level, leaves first.

    Returns:
        sRGB colors in [0, 1], of shape `(N_l, 3)`, for each level.

    Raises:
        ValueError: If `nodes` is not a tree.
    """
    check_tree(nodes)
    families = nodes[-1]
    extra = HUES[-1] + 137.508 * np.arange(1, families - len(HUES) + 1)
    hues = np.concatenate([HUES, extra])[:families]
    colors = []
    for count in nodes:
        members = count // families
        position = np.tile((np.arange(members) + 0.5) / members, families)
        hue = np.repeat(hues, members) + HUE_SPREAD * (position - 0.5)
        lightness = LIGHTNESS[0] + (LIGHTNESS[1] - LIGHTNESS[0]) * position
        colors.append(
            np.stack(
                [
                    oklch_to_srgb(np.array(x), np.array(CHROMA), np.array(h))
                    for x, h in zip(lightness, hue)
                ]
            )
        )
    return colors
