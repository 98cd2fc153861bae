"""Vision transformer whose tokens are points of the hyperboloid, from the layers of HELM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_choice, check_count, check_range
from ...compat import is_exporting
from ...deprecation import renamed_arguments, renamed_value
from ...ops.fused import to_ambient
from ...ops.inputs import upcast
from ...ops.unfused import RotationTable
from ..common.curvature import Curvature, curvature_options
from ..common.single_numbers import SingleNumbers
from .attention import HeadMerge, attend_heads
from .block import LorentzBlock
from .ffn import LorentzSwiGLU
from .hope import Rotations, rotations
from .initialization import initialize_maps
from .linear import LorentzLinear
from .mice import MiCE
from .norm import LorentzResidual, LorentzRMSNorm, lorentz_sum

POSITIONS = ('hope', 'learned')


class GridHoPE(nn.Module):
    r"""Angles of a rotary encoding in two dimensions (see :class:`HoPE`).

    One half of the pairs of a head turns by ``row * base^(-2l/d)``, the other by the column, with
    ``d = head_dims / 2``. Scores then depend on the offset of two patches, and grids of any size
    have positions. Rows and columns count from 1: a class token is at (0, 0) and does not turn.

    Args:
        head_dims: Space dimensions of a head, a multiple of 4.
        base: Base of the frequencies; far smaller than for text, as grids are short.

    Raises:
        ValueError: If ``head_dims`` is no multiple of 4.
    """

    @renamed_arguments(dims='head_dims')
    def __init__(self, head_dims: int, base: float = 100.0):
        super().__init__()
        if head_dims < 4 or head_dims % 4:
            raise ValueError(f'head_dims must be a positive multiple of 4, got {head_dims}')
        self.head_dims, self.base = head_dims, base

    def table(self, x: Tensor, size: tuple[int, int], prefix: int = 0) -> Tensor | Rotations:
        """The rotations of tokens in front of a grid, as :meth:`HoPE.table` returns them.

        Args:
            x: Any tensor of the tokens' device and dtype.
            size: Rows and columns of the grid ``(h, w)``.
            prefix: Tokens in front of it.

        Returns:
            Unit complex numbers ``(prefix + h w, 1, head_dims / 2)``.
        """
        wide: dict[str, Any] = {'dtype': torch.float64, 'device': x.device}
        half = self.head_dims // 2
        rates = self.base ** (-torch.arange(0, half, 2, **wide) / half)
        rows, columns = (torch.arange(1, n + 1, **wide)[:, None] * rates for n in size)
        rows = rows[:, None].expand(-1, size[1], -1)
        columns = columns[None].expand(size[0], -1, -1)
        angles = torch.cat([rows, columns], -1).flatten(0, 1)
        angles = F.pad(angles, (0, 0, prefix, 0)).unsqueeze(1)
        dtype = torch.promote_types(x.dtype, torch.float32)
        return rotations(angles, dtype)

    def extra_repr(self) -> str:
        return f'{self.head_dims}, base={self.base:g}'


class LorentzPatchEmbedding(nn.Module):
    r"""Patches to points: the space components of a patch are a linear map of its pixels.

    So no exponential map can overflow, and there is nothing to project. (HyperCore lifts single
    pixels first.) Images are padded by zeros at the right and the bottom to whole patches.

    Args:
        embed_dims: Space dimensions.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of an image.
        grid: Rows and columns of learned positions, which are added to the patches by a residual
            connection and interpolated (bicubic) for other sizes; None: no positions.
        with_cls_token: Put a learned point before the patches.
        scale: Scale of the residual connection.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(
        self,
        embed_dims: int,
        patch_size: int,
        in_channels: int,
        grid: tuple[int, int] | None,
        with_cls_token: bool,
        scale: float,
    ):
        super().__init__()
        self.patch_size, self.in_channels = patch_size, in_channels
        self.projection = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)
        self.cls_token = self.pos_embed = None
        if with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
            nn.init.trunc_normal_(self.cls_token, std=0.02)
        if grid is not None:
            self.pos_embed = nn.Parameter(torch.zeros(1, embed_dims, *grid))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
            self.res = LorentzResidual(scale)

    def forward(self, images: Tensor, c: Tensor | float) -> tuple[Tensor, tuple[int, int]]:
        """Embeds images ``(B, in_channels, H, W)``.

        Returns:
            Points ``(B, P + h w, embed_dims)``, P = 1 if there is a class token, and ``(h, w)``.

        Raises:
            ValueError: If the images are of another shape.
        """
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(
                f'images must be (B, {self.in_channels}, H, W), got {tuple(images.shape)}'
            )
        side = self.patch_size
        below, right = (-n % side for n in images.shape[-2:])
        if is_exporting() or below or right:
            images = F.pad(images, (0, right, 0, below))
        (x,) = upcast(self.projection(images))
        size = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)
        if self.pos_embed is not None:
            positions = resize_grid(self.pos_embed, size).flatten(2).transpose(1, 2)
            x = self.res(x, positions.expand_as(x), c)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.to(x.dtype).expand(x.shape[0], -1, -1), x], 1)
        return x, size

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Takes positions of another image size, interpolated."""
        name = f'{prefix}pos_embed'
        if self.pos_embed is not None and name in state_dict and state_dict[name].ndim == 4:
            rows, columns = self.pos_embed.shape[-2:]
            state_dict[name] = resize_grid(state_dict[name], (rows, columns))
        super()._load_from_state_dict(state_dict, prefix, *args)


def resize_grid(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolates ``(1, d, H, W)`` to another height and width, in float32 or better."""
    if not is_exporting() and tuple(grid.shape[-2:]) == size:
        return grid
    return F.interpolate(upcast(grid)[0], size, mode='bicubic', align_corners=False)


class GridAttention(SingleNumbers, nn.Module):
    """Multi-head self-attention of points in all directions; see :func:`attend`.

    Unlike in :class:`LorentzAttention`, whose width counts the time of every head, the space
    dimensions are divided: heads are as wide as those of a Euclidean baseline, and have a time
    besides.

    Args:
        embed_dims: Space dimensions, a multiple of ``num_heads``.
        num_heads: Number of heads.

    Raises:
        ValueError: If the heads do not divide the dimensions.
    """

    numbers = ('tau',)

    @renamed_arguments(dims='embed_dims')
    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        if num_heads < 1 or embed_dims % num_heads:
            raise ValueError(
                f'num_heads must be a divisor of embed_dims = {embed_dims}, got {num_heads}'
            )
        self.shape = (3, num_heads, embed_dims // num_heads)
        self.qkv = LorentzLinear(embed_dims, 3 * embed_dims)
        self.wo = HeadMerge(num_heads, embed_dims // num_heads, embed_dims)
        self.tau = nn.Parameter(torch.tensor([math.sqrt(num_heads + embed_dims)]))

    def forward(self, x: Tensor, c: Tensor | float, table: RotationTable | None = None) -> Tensor:
        """Maps points ``(B, N, embed_dims)`` to points of the same shape; see :class:`GridHoPE`."""
        q, k, v = self.qkv.map(to_ambient(x, c)).unflatten(-1, self.shape).unbind(2)
        return self.wo.map(attend_heads(q, k, v, c, self.tau, causal=False, table=table))


class LorentzVisionBlock(LorentzBlock):
    r"""Pre-norm block with stochastic depth.

    A branch that is dropped leaves the point where it is; the weight of one that is kept is
    divided by the probability to be kept.

    Args:
        embed_dims: Space dimensions.
        attention: :class:`GridAttention`.
        ffn: :class:`LorentzSwiGLU` or :class:`MiCE`.
        scale: Scale of both residual connections.
        drop_path: Probability that the branch of an image is dropped in training, in [0, 1).

    Raises:
        ValueError: If ``drop_path`` is out of range.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(
        self,
        embed_dims: int,
        attention: nn.Module,
        ffn: nn.Module,
        scale: float,
        drop_path: float = 0.0,
    ):
        super().__init__(embed_dims, attention, ffn, scale)
        check_range('[0, 1)', drop_path=drop_path)
        self.drop_path = drop_path

    def forward(  # type: ignore[override]  # positions are a table, and no token is cached
        self, x: Tensor, c: Tensor | float, table: RotationTable | None = None
    ) -> Tensor:
        """Maps points ``(B, N, embed_dims)`` to points of the same shape."""
        x = self._join(self.res1, x, self.attention(self.norm1(x), c, table), c)
        return self._join(self.res2, x, self.ffn(self.norm2(x), c), c)

    def _join(self, res: LorentzResidual, x: Tensor, y: Tensor, c: Tensor | float) -> Tensor:
        if not self.training or not self.drop_path:
            return res(x, y, c)
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.drop_path
        joined = lorentz_sum(x, y, res.weight / (1 - self.drop_path), c, res.scale)
        return torch.where(kept, joined, x)

    def extra_repr(self) -> str:
        return f'drop_path={self.drop_path:g}'


class PointMaps(NamedTuple):
    """What :class:`LorentzVisionTransformer` makes of a batch of images.

    Attributes:
        points: Space components ``(B, P + h w, embed_dims)`` after each block of ``out_indices``;
            a class token first.
        size: Rows and columns ``(h, w)`` of the patches.
        c: Their curvature ``()``.
    """

    points: tuple[Tensor, ...]
    size: tuple[int, int]
    c: Tensor


class LorentzVisionTransformer(nn.Module):
    r"""Vision transformer on the hyperboloid: patches, blocks, and a norm for each output.

    Args:
        embed_dims: Space dimensions; time is not counted.
        depth: Number of blocks.
        num_heads: Number of heads, a divisor of ``embed_dims``.
        hidden_dims: Hidden dimensions of :class:`LorentzSwiGLU`; None: ``8/3 embed_dims``, which
            has the parameters of a ViT's network of ``4 embed_dims``.
        image_size: Height and width in pixels of the grid of learned positions.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of an image.
        positions: ``'hope'``: rotary in two dimensions (:class:`GridHoPE`); ``'learned'``: a point
            for each patch of ``image_size``, interpolated for other sizes.
        out_indices: Blocks whose points are returned, ascending.
        with_cls_token: Put a class token before the patches.
        final_norm: Norm of the points of each output. It fixes their radius up to its weight; False
            keeps the radii that the blocks compute.
        drop_path: Probability of dropping a branch of the last block; it rises linearly from 0.
        residual_scale: Scale of the residual connections; None: ``sqrt(embed_dims)``.
        curvature: ``c``, or arguments of :class:`Curvature`; fixed to 1 by default.
        experts: Arguments of :class:`MiCE` for blocks with experts; ``hidden_dims`` is half of that
            of the others by default. None: no experts.
        expert_layers: Which blocks have experts; None: all but the first.
        init_std: Deviation of the linear maps, see :func:`.initialize_maps`; None: that of HELM's
            official code.

    Raises:
        ValueError: For arguments out of their range.

    Source: layers of He et al., HELM (NeurIPS 2025); the backbone has no paper.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(
        self,
        embed_dims: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        hidden_dims: int | None = None,
        image_size: tuple[int, int] = (224, 224),
        patch_size: int = 16,
        in_channels: int = 3,
        positions: str = 'hope',
        out_indices: Sequence[int] = (-1,),
        with_cls_token: bool = True,
        final_norm: bool = True,
        drop_path: float = 0.0,
        residual_scale: float | None = None,
        curvature: float | dict | None = None,
        experts: dict | None = None,
        expert_layers: Sequence[int] | None = None,
        init_std: float | None = 0.02,
    ):
        super().__init__()
        positions = renamed_value('positions', positions, learnt='learned')
        check_choice(POSITIONS, positions=positions)
        check_count(
            1,
            embed_dims=embed_dims,
            depth=depth,
            num_heads=num_heads,
            hidden_dims=1 if hidden_dims is None else hidden_dims,
            patch_size=patch_size,
            in_channels=in_channels,
            image_size=min(image_size),
        )
        check_range('[0, 1)', drop_path=drop_path)
        self.out_indices = _indices('out_indices', out_indices, depth)
        if expert_layers is not None and experts is None:
            raise ValueError(f'expert_layers needs experts, got expert_layers={expert_layers}')
        chosen = range(1, depth) if expert_layers is None else expert_layers
        chosen = _indices('expert_layers', chosen, depth) if experts is not None else ()
        hidden_dims = round(embed_dims * 8 / 3) if hidden_dims is None else hidden_dims
        scale = embed_dims**0.5 if residual_scale is None else residual_scale
        self.curvature = Curvature(**curvature_options(curvature, learnable=False))
        height, width = (-(-n // patch_size) for n in image_size)
        grid = None if positions == 'hope' else (height, width)
        self.embedding = LorentzPatchEmbedding(
            embed_dims, patch_size, in_channels, grid, with_cls_token, scale
        )
        self.blocks = nn.ModuleList(
            LorentzVisionBlock(
                embed_dims,
                GridAttention(embed_dims, num_heads),
                MiCE(embed_dims, **{'hidden_dims': max(hidden_dims // 2, 1), **(experts or {})})
                if i in chosen
                else LorentzSwiGLU(embed_dims, hidden_dims),
                scale,
                drop_path * i / max(depth - 1, 1),
            )
            for i in range(depth)
        )
        self.rope = GridHoPE(embed_dims // num_heads) if positions == 'hope' else None
        self.norms = nn.ModuleList(
            LorentzRMSNorm(embed_dims) if final_norm else nn.Identity() for _ in self.out_indices
        )
        initialize_maps(self.blocks, init_std)

    @property
    def num_prefix_tokens(self) -> int:
        """1 with a class token, 0 without."""
        return int(self.embedding.cls_token is not None)

    def forward(self, images: Tensor) -> PointMaps:
        """Maps images ``(B, in_channels, H, W)`` of any size to points."""
        c = self.curvature.constant()
        x, size = self.embedding(images, c)
        table = None if self.rope is None else self.rope.table(x, size, self.num_prefix_tokens)
        points: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(x, c, table)
            if i in self.out_indices:
                points.append(self.norms[len(points)](x))
            if i == self.out_indices[-1]:
                break
        return PointMaps(tuple(points), size, self.curvature())


def _indices(name: str, indices: Sequence[int], depth: int) -> tuple[int, ...]:
    """Ascending indices of blocks, counted from 0; negative ones count from the end."""
    found = tuple(i + depth if i < 0 else i for i in indices)
    inside = all(0 <= i < depth for i in found)
    if not inside or list(found) != sorted(set(found)) or (name == 'out_indices' and not found):
        raise ValueError(
            f'{name} must be ascending indices of the {depth} blocks, got {tuple(indices)}'
        )
    return found
