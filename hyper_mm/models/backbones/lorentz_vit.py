"""Vision transformer on the hyperboloid as a backbone of all frameworks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from hyper_mm.checks import check_choice
from hyper_mm.layers.common.aux_losses import AuxLossSource
from hyper_mm.layers.common.curvature import Curvature
from hyper_mm.layers.lorentz.vit import LorentzVisionTransformer
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.ops import lorentz
from hyper_mm.ops.fused import to_ambient
from hyper_mm.registry import MODELS

ARCHITECTURES = {
    name: dict(
        embed_dims=dims, num_layers=12, num_heads=dims // 64, feedforward_channels=dims * 8 // 3
    )
    for name, dims in dict(tiny=192, small=384, base=768).items()
}
OUT_TYPES = ('cls_token', 'featmap', 'avg_featmap', 'raw')
OUTPUTS = ('space', 'logmap0', 'lorentz')


@MODELS.register_module()
class LorentzViT(OwnInit, AuxLossSource, BaseModule):
    r"""Vision transformer whose tokens are points of the hyperboloid, for mmpretrain, mmseg, mmdet.

    Arguments are called as those of mmpretrain's ``VisionTransformer``, whose counterpart it is:
    equally wide (``embed_dims`` are space dimensions), deep, and with about as many parameters.
    Images may be of any size.

    Its ``experts`` publish ``loss_balance``, which a model of ours adds to its losses
    (``hyper_mm.ImageClassifier``, ``EncoderDecoder``, ``MaskRCNN``, ...); see
    ``hyper_mm.MoEBalanceHook``, too.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'`` (192, 384, 768 wide, 12 blocks), or a dict of
            ``embed_dims``, ``num_layers``, ``num_heads`` and, optionally, ``feedforward_channels``
            (``8/3 embed_dims`` by default).
        img_size: Side, or height and width, of the training images in pixels; it is the grid of
            learned positions and nothing else.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of an image.
        out_indices: Blocks whose output is returned.
        out_type: ``'cls_token'`` ``(B, C)``; ``'featmap'`` ``(B, C, h, w)``; ``'avg_featmap'``
            ``(B, C)``, the Lorentz centroid of the patches; ``'raw'`` ``(B, P + h w, C)``.
        output: What of a point is returned: ``'space'``, its space components; ``'logmap0'``, its
            tangent vector at the origin; ``'lorentz'``, all of it, time first, so ``C = embed_dims
            + 1``.
        with_cls_token: Put a class token before the patches.
        positions: ``'hope'`` or ``'learned'``.
        drop_path_rate: Stochastic depth of the last block.
        final_norm: Norm of each output.
        residual_scale: Scale of the residual connections; None: ``sqrt(embed_dims)``.
        curvature: Arguments of :class:`hyper_mm.layers.Curvature`; fixed to 1 by default.
        experts: Arguments of :class:`hyper_mm.layers.MiCE`, or None.
        expert_layers: Blocks with experts; None: all but the first.
        init_std: Deviation of the linear maps at initialization; None: that of HELM's official
            code.
        frozen_stages: Blocks, from the first, that are kept as they are, with the embedding; 0: the
            embedding alone; -1: nothing.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: For arguments out of their range.

    Example:
        >>> model = dict(
        ...     type='ImageClassifier',
        ...     backbone=dict(type='hyper_mm.LorentzViT', arch='small'),
        ...     head=dict(type='VisionTransformerClsHead', in_channels=384, num_classes=1000))

    Source: layers of He et al., HELM: Hyperbolic Large Language Models via Mixture-of-Curvature
    Experts (NeurIPS 2025). The backbone has no paper.
    """

    optim_rules = {
        'vit': {},
        'vit.embedding.cls_token': dict(decay_mult=0.0),
        'vit.embedding.pos_embed': dict(decay_mult=0.0),
    }

    def __init__(
        self,
        arch: str | dict = 'small',
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'cls_token',
        output: str = 'space',
        with_cls_token: bool = True,
        positions: str = 'hope',
        drop_path_rate: float = 0.0,
        final_norm: bool = True,
        residual_scale: float | None = None,
        curvature: dict | None = None,
        experts: dict | None = None,
        expert_layers: Sequence[int] | None = None,
        frozen_stages: int = -1,
        init_std: float | None = 0.02,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        check_choice(OUT_TYPES, out_type=out_type)
        check_choice(OUTPUTS, output=output)
        if out_type == 'cls_token' and not with_cls_token:
            raise ValueError("out_type='cls_token' needs with_cls_token=True")
        arch = _architecture(arch)
        if not -1 <= frozen_stages <= arch['num_layers']:
            raise ValueError(
                f'frozen_stages must be -1 to {arch["num_layers"]}, got {frozen_stages}'
            )
        self.embed_dims = arch['embed_dims']
        self.out_type, self.output, self.frozen_stages = out_type, output, frozen_stages
        self.vit = LorentzVisionTransformer(
            arch['embed_dims'],
            depth=arch['num_layers'],
            num_heads=arch['num_heads'],
            hidden_dims=arch.get('feedforward_channels'),
            image_size=(img_size, img_size) if isinstance(img_size, int) else tuple(img_size),
            patch_size=patch_size,
            in_channels=in_channels,
            positions=positions,
            out_indices=[out_indices] if isinstance(out_indices, int) else out_indices,
            with_cls_token=with_cls_token,
            final_norm=final_norm,
            drop_path=drop_path_rate,
            residual_scale=residual_scale,
            curvature=curvature,
            experts=experts,
            expert_layers=expert_layers,
            init_std=init_std,
        )
        for part in self._frozen():
            part.requires_grad_(False)

    @property
    def num_extra_tokens(self) -> int:
        """Tokens in front of the patches, under mmpretrain's name: necks are checked against it."""
        return self.vit.num_prefix_tokens

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter, for learning rates that decay with the distance to the head.

        mmpretrain's ``LearningRateDecayOptimWrapperConstructor`` asks for it. As in its
        ``VisionTransformer``, layer 0 is the embedding, and the last one holds what follows the
        blocks. The curvature belongs to all blocks; it counts as the last layer too, whose rate is
        not reduced.

        Args:
            param_name: Name of the parameter in the model.
            prefix: What the names of the backbone's parameters begin with.

        Returns:
            The layer, and the number of layers: the blocks and two more.
        """
        count = len(self.vit.blocks) + 2
        own = param_name[len(prefix) :] if param_name.startswith(prefix) else ''
        if own.startswith('vit.embedding.'):
            return 0, count
        if own.startswith('vit.blocks.'):
            return int(own.split('.')[2]) + 1, count
        return count - 1, count

    def _frozen(self) -> list[torch.nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.vit.embedding, *self.vit.blocks[: self.frozen_stages]]

    def train(self, mode: bool = True) -> LorentzViT:
        """Switches the mode of what is not frozen."""
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Computes features.

        Args:
            inputs: Images ``(B, in_channels, H, W)``.

        Returns:
            One tensor for each of ``out_indices``, in float32 or better; see ``out_type``.
        """
        points, size, c = self.vit(inputs)
        if self.publishes:
            self.publish(self._diagnostics())
        return tuple(self._format(x, size, c) for x in points)

    def _format(self, x: Tensor, size: tuple[int, int], c: Tensor) -> Tensor:
        prefix = self.vit.num_prefix_tokens
        if self.out_type == 'cls_token':
            x = x[:, 0]
        elif self.out_type != 'raw':
            x = x[:, prefix:]
        if self.out_type == 'avg_featmap':
            x = lorentz.centroid(x, c=c)
        if self.output == 'logmap0':
            x = lorentz.logmap0(x, c)
        elif self.output == 'lorentz':
            x = to_ambient(x, c)
        return (
            x.transpose(-2, -1).unflatten(-1, size).contiguous()
            if self.out_type == 'featmap'
            else x
        )

    def _diagnostics(self) -> dict[str, Tensor]:
        """The learned curvatures: that of the points, and the extremes of the experts'."""
        found = {}
        if self.vit.curvature.learnable:
            found['lorentz_vit/curvature'] = self.vit.curvature().detach()
        own = [m().detach() for m in self.vit.blocks.modules() if isinstance(m, Curvature)]
        if own:
            low, high = torch.stack(own).aminmax()
            found |= {'lorentz_vit/lowest_curvature': low, 'lorentz_vit/highest_curvature': high}
        return found


def _architecture(arch: str | dict) -> dict:
    if isinstance(arch, str):
        if arch not in ARCHITECTURES:
            raise ValueError(f'arch must be one of {sorted(ARCHITECTURES)} or a dict, got {arch!r}')
        return ARCHITECTURES[arch]
    needed = {'embed_dims', 'num_layers', 'num_heads'}
    allowed = needed | {'feedforward_channels'}
    if not needed <= set(arch) <= allowed:
        raise ValueError(f'arch must have {sorted(needed)}, got {sorted(arch)}')
    return arch
