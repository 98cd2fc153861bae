"""Models in the form that exporters take: one function of images, for any batch and size."""

from __future__ import annotations

import copy
import keyword
import sys

from torch import Tensor, nn


class Exportable(nn.Module):
    """A copy of a model, in evaluation mode, as one function of normalized images.

    It is what ``torch.export.export``, ``torch.onnx.export`` and ``torch.jit.trace`` take. Merge
    adapters first (``adapter.merge()``). The model of mmengine's frameworks is called with
    ``mode='tensor'``, any other one as it is.

    Two things of OpenMMLab stand in the way and are changed in the copy. mmseg's ``Upsample`` (in
    its U-Net) computes sizes by ``int()``, which tracing takes for constants: it becomes
    ``torch.nn.Upsample``. And mmcv calls an instance norm ``in``, a word of Python that breaks the
    code which ``torch.export`` writes: it becomes ``in_``.

    Args:
        model: A classifier, segmentor, backbone or neck.

    Example:
        >>> torch.onnx.export(Exportable(model), (images,), 'model.onnx', dynamo=False)
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        stock = getattr(sys.modules.get('mmseg.models.utils'), 'Upsample', None)
        for module in list(self.model.modules()):
            for name, child in list(module.named_children()):
                if stock is not None and type(child) is stock:
                    size = dict(size=child.size, scale_factor=child.scale_factor)
                    options = dict(mode=child.mode, align_corners=child.align_corners)
                    setattr(module, name, nn.Upsample(**size, **options))
                if keyword.iskeyword(name):
                    _rename(module, name, f'{name}_')
        self.eval()  # the wrapper too: exporters set the mode back to what they found
        self.options = {'mode': 'tensor'} if hasattr(model, 'data_preprocessor') else {}

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Computes what the model returns for normalized images ``(B, 3, H, W)``."""
        return self.model(images, **self.options)


def _rename(module: nn.Module, old: str, new: str) -> None:
    """Renames a child, also where the module keeps its name in an attribute (``norm_name``)."""
    module._modules = {new if k == old else k: v for k, v in module._modules.items()}
    for attribute, value in list(vars(module).items()):
        if isinstance(value, str) and value == old:
            setattr(module, attribute, new)
