"""Reads the hierarchy that a model of OpenMMLab finds in its input."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from hyper_mm.layers import HierarchyMapper

from .attention import attention_summary


def find_mapper(model: nn.Module) -> HierarchyMapper:
    """Returns the one Hi-Mapper module of a model.

    Args:
        model: Any model, wrapped for distributed training or not.

    Returns:
        The module.

    Raises:
        ValueError: If there is none, or more than one.
    """
    mappers = [module for module in model.modules() if isinstance(module, HierarchyMapper)]
    if len(mappers) != 1:
        raise ValueError(f'the model must have one HierarchyMapper to draw, it has {len(mappers)}')
    return mappers[0]


def feature_size(positions: int, height: int, width: int) -> tuple[int, int]:
    """Finds the size of a feature map, that of its image's shape with the given positions.

    Args:
        positions: Number of positions.
        height: Height of the image.
        width: Width of the image.

    Returns:
        Height and width of the feature map.
    """
    sizes = [(h, positions // h) for h in range(1, positions + 1) if positions % h == 0]
    return min(sizes, key=lambda size: abs(np.log(size[0] * width / (size[1] * height))))


@torch.no_grad()
def read_hierarchies(model: nn.Module, data: dict) -> tuple[list[dict], dict[str, float]]:
    """Shows a model images in evaluation mode, one by one, and reads the hierarchy of each.

    The images of a batch may differ in size. Each is seen as a whole, also by a model that predicts
    by sliding windows. The modes of the modules and the state of torch's random generators stay as
    they were.

    Args:
        model: Model of mmseg, mmdet or mmpretrain with one Hi-Mapper.
        data: A batch of the data loader (``inputs``, ``data_samples``).

    Returns:
        For each image the arguments of :func:`hyper_mm.visualization.draw_hierarchy`, but for the
        names of classes; and scalars, see :func:`collapse_indicators`.

    Raises:
        ValueError: If the model has not one Hi-Mapper, or its ``extract_feat`` does not use it.
    """
    mapper = find_mapper(model)
    modes = {module: module.training for module in model.modules()}
    devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})
    samples = copy.deepcopy(data['data_samples'])  # preprocessors write into them
    try:
        with torch.random.fork_rng(devices):
            model.eval()
            found = [_read(model, mapper, *pair) for pair in zip(data['inputs'], samples)]
    finally:
        for module, mode in modes.items():
            module.training = mode
    drawings, leaves = zip(*found)
    attention = [drawing['attention'] for drawing in drawings]
    assigned = drawings[0].get('assigned', False)
    return list(drawings), collapse_indicators(attention, torch.cat(leaves), assigned)


def _read(
    model: nn.Module, mapper: HierarchyMapper, image: Tensor, sample: BaseDataElement
) -> tuple[dict, Tensor]:
    """What to draw of one image, and its leaves ``(1, N, d)``."""
    memories: list[Tensor] = []
    hook = mapper.register_forward_pre_hook(
        lambda _, args, kwargs: memories.append(args[0] if args else kwargs['memory']),
        with_kwargs=True,
    )
    inputs = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), False)['inputs']
    size = tuple(inputs.shape[-2:])
    drawing = dict(image=_as_image(image, *size))
    try:
        if hasattr(model, 'encode_decode'):
            # not predict: that undoes the flip of a training image
            logits = model.encode_decode(inputs, [dict(img_shape=size)])
            labels = model.postprocess_result(logits)[0].pred_sem_seg.data[0]
            drawing['segmentation'] = labels.cpu().numpy().astype(np.int32)
        else:
            model.extract_feat(inputs)  # not predict: mixed images cannot be scaled back
    finally:
        hook.remove()
    if not memories:
        raise ValueError(f'extract_feat of {type(model).__name__} does not use its Hi-Mapper')
    memory, queries = memories[0], mapper.queries()
    nodes = mapper.decomposer(memory, queries, with_assignment=True)
    levels, maps = nodes.levels, nodes.assignment
    drawing['assigned'] = mapper.decomposer.block.cross_attn.competition
    if not drawing['assigned']:
        maps = mapper.decomposer.attention(memory, queries)
    drawing['attention'] = [a[0].float().cpu().numpy() for a in maps]
    drawing['feature_size'] = feature_size(memory.shape[1], *size)
    if mapper.lift is not None:
        drawing['tangents'] = mapper.lift(torch.cat(levels, 1))[0][0].float().cpu().numpy()
        if mapper.lift.curvature is not None:
            drawing['curvature'] = mapper.lift.curvature().item()
    return drawing, levels[0]


def collapse_indicators(
    attention: list[list[np.ndarray]], leaves: Tensor, assigned: bool = False
) -> dict[str, float]:
    """Computes numbers that tell whether a hierarchy has collapsed.

    Args:
        attention: Attention ``(N_l, M)`` of each level, leaves first, of each image.
        leaves: Leaf features ``(B, N, d)``.
        assigned: The attention is an assignment of positions to nodes, as where nodes compete.

    Returns:
        Means over the images: ``distinct_l`` (0: all nodes of level l look at the same positions),
        ``visible_l`` (fraction of nodes that win a position), ``nested_l`` (fraction of positions
        whose winner is a child of the winner above), ``leaf_cosine`` (1: all leaves of an image are
        one), ``sibling_cosine`` (1: the two leaves of a parent are one), and with several images
        ``image_cosine`` (1: leaves do not depend on the image).
    """
    out = {}
    summaries = [attention_summary(a, assigned) for a in attention]
    for k, levels in enumerate(zip(*summaries), 1):
        out[f'distinct_{k}'] = float(np.mean([s.distinctness for s in levels]))
        out[f'visible_{k}'] = float(np.mean([s.visible / len(s.shares) for s in levels]))
        if levels[0].nested is not None:
            out[f'nested_{k}'] = float(np.mean([s.nested for s in levels]))
    unit = F.normalize(leaves.float(), dim=-1)
    images, count = unit.shape[:2]
    if count > 1:
        cosines = unit @ unit.mT
        own = cosines.diagonal(dim1=1, dim2=2).sum()
        out['leaf_cosine'] = float((cosines.sum() - own) / (images * count * (count - 1)))
    if len(attention[0]) > 1 and count == 2 * len(attention[0][1]):
        out['sibling_cosine'] = float((unit[:, 0::2] * unit[:, 1::2]).sum(-1).mean())
    if images > 1:
        cosines = torch.einsum('ind,jnd->nij', unit, unit)
        own = cosines.diagonal(dim1=1, dim2=2).sum()
        out['image_cosine'] = float((cosines.sum() - own) / (count * images * (images - 1)))
    return out


def _as_image(inputs: Tensor, height: int, width: int) -> np.ndarray:
    """The BGR input (3, h, w) of a model as an RGB image, padded as the model pads it."""
    image = inputs.flip(0).permute(1, 2, 0).clamp(0, 255).byte().cpu().numpy()
    pad = [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
    return np.pad(image, pad)
