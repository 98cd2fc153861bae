"""Plain transformer blocks as a neck: the matched baseline of Hi-Mapper."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from hyper_mm.checks import check_count
from hyper_mm.layers.common.attention import Attention, Mlp
from hyper_mm.layers.himapper.decomposer import init_weights
from hyper_mm.models.utils.added_neck import AddedNeck
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.registry import MODELS


@MODELS.register_module()
class PlainBlocks(AddedNeck, OwnInit, BaseModule):
    r"""Self-attention and MLP over the positions of one level, with as many parameters as wanted.

    .. math:: x = W_i \operatorname{LN}(v),\quad x \leftarrow x + \operatorname{SelfAttn}(
        \operatorname{LN}(x)),\quad x \leftarrow x + \operatorname{MLP}(\operatorname{LN}(x)),\quad
        v \leftarrow v + W_o \operatorname{LN}(x)

    The update is zero at initialization, as that of :class:`HiMapper`; learning rate and weight
    decay are the same, too. So what Hi-Mapper is compared with differs in its computation alone.

    Args:
        in_channels: Channels of the backbone's levels.
        level: Which level to change.
        width: Hidden width.
        num_heads: Heads.
        hidden: Hidden width of the MLPs, by which the number of parameters is matched.
        num_blocks: Number of blocks.
        dropout: Dropout.
        pool: Return the mean over the positions of the level, in place of
            ``GlobalAveragePooling`` of a classifier.
        neck: Config of a neck to apply to the result.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: For a ``level`` outside its range, a ``num_blocks`` or ``hidden`` below 1, or an
            inner neck after pooling.
    """

    optim_rules = {'inside': dict(lr_mult=10.0)}

    def __init__(
        self,
        in_channels: Sequence[int],
        level: int = -1,
        width: int = 128,
        num_heads: int = 4,
        hidden: int = 512,
        num_blocks: int = 1,
        dropout: float = 0.1,
        pool: bool = False,
        neck: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        check_count(1, num_blocks=num_blocks, hidden=hidden)
        if not -len(in_channels) <= level < len(in_channels):
            raise ValueError(f'level must index in_channels {tuple(in_channels)}, got {level}')
        if pool and neck is not None:
            raise ValueError('neck must be None with pool=True')
        dim = in_channels[level]
        out = nn.Linear(width, dim)
        self.level = level
        self.pool = pool
        self.inside = nn.ModuleDict(
            dict(
                in_proj=nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width)),
                blocks=nn.ModuleList(
                    nn.ModuleDict(
                        dict(
                            norm1=nn.LayerNorm(width),
                            attn=Attention(width, num_heads, dropout=dropout),
                            norm2=nn.LayerNorm(width),
                            mlp=Mlp(width, hidden, dropout),
                        )
                    )
                    for _ in range(num_blocks)
                ),
                out_proj=nn.Sequential(nn.LayerNorm(width), out),
            )
        )
        self.inside.apply(init_weights)
        nn.init.zeros_(out.weight)
        self.neck = None if neck is None else MODELS.build(neck)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Changes one level of a feature pyramid.

        Args:
            inputs: Levels ``(B, C, H, W)``.

        Returns:
            The levels, or what ``neck`` makes of them; with ``pool`` the mean ``(B, C)`` of the
            level alone, in a tuple.
        """
        levels = list(inputs)
        features = levels[self.level]
        tokens = features.flatten(2).transpose(-2, -1).contiguous()
        x = self.inside['in_proj'](tokens)
        for block in self.inside['blocks']:
            y = block['norm1'](x)
            x = x + block['attn'](y, y)
            x = x + block['mlp'](block['norm2'](x))
        tokens = tokens + self.inside['out_proj'](x)
        if self.pool:
            return (tokens.mean(1).to(features.dtype),)
        levels[self.level] = tokens.transpose(-2, -1).reshape(features.shape).to(features.dtype)
        return tuple(levels) if self.neck is None else self.neck(tuple(levels))
