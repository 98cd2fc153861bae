"""Networks of MONAI as backbones."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from hyper_mm.near_misses import suggestion
from hyper_mm.registry import MODELS


@MODELS.register_module()
class MonaiBackbone(BaseModule):
    """A network of ``monai.networks.nets`` that maps images to a map, as a backbone.

    For example ``dict(type='hyper_mm.MonaiBackbone', net='BasicUNet', spatial_dims=2,
    in_channels=3, out_channels=16, features=(16, 32, 64, 128, 256, 16))`` before an ``FCNHead``
    with ``in_channels=16, in_index=0``.

    Args:
        net: Name in ``monai.networks.nets``.
        init_cfg: Initialization config of mmengine; MONAI's own where it is None.
        **options: Of the network.

    Raises:
        ValueError: If MONAI has no such network.
    """

    def __init__(self, net: str, init_cfg: dict | None = None, **options):
        super().__init__(init_cfg)
        from monai.networks import nets

        kind = getattr(nets, net, None)
        if not isinstance(kind, type) or not issubclass(kind, nn.Module):
            known = [n for n in dir(nets) if n[0].isupper() and isinstance(getattr(nets, n), type)]
            raise ValueError(
                f'net must be a network of monai.networks.nets, got {net!r}{suggestion(net, known)}'
            )
        self.net = kind(**options)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Runs the network.

        Args:
            x: Images ``(B, C, H, W)``.

        Returns:
            Its map, or its maps where it returns several.

        Raises:
            TypeError: If it returns something else than maps.
        """
        found = self.net(x)
        maps = (found,) if isinstance(found, Tensor) else tuple(found)
        if not all(isinstance(z, Tensor) and z.ndim == 4 for z in maps):
            raise TypeError(f'{type(self.net).__name__} must return maps (B, C, H, W)')
        return maps
