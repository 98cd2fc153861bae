"""Hyperbolic classifiers and label trees in the heads of the hosts, by one argument.

``type='hyper_mm.FCNHead'`` with ``classifier=dict(type='LorentzMLR', ...)`` is the stock head with
its last layer replaced; see :func:`hyper_mm.models.stock.hosting`. Names of parameters are those of
the stock layer (``conv_seg``, ``fc``, ``fc_cls``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyper_mm.checks import check_choice, check_not_negative
from hyper_mm.layers.hyperbolic import (
    BusemannHead,
    EuclideanMLR,
    HyperbolicPrototypes,
    LorentzMLR,
    PoincareMLR,
)
from hyper_mm.layers.taxonomy import (
    LevelLoss,
    PathLogits,
    Taxonomy,
    TreeMinLoss,
    TreeSoftmax,
    TreeTripletLoss,
)
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.near_misses import explain_arguments, suggestion

CLASSIFIERS = {
    'Busemann': BusemannHead,
    'EuclideanMLR': EuclideanMLR,
    'LorentzMLR': LorentzMLR,
    'PoincareMLR': PoincareMLR,
    'Prototypes': HyperbolicPrototypes,
}
TREE_LOSSES = ('softmax', 'tree_min', 'levels')

_SEEN: ContextVar[list[tuple[Tensor, Tensor]] | None] = ContextVar('hyper_mm_nodes', default=None)


@contextmanager
def watched_classifiers() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Keeps outputs and features of the classifiers of heads that run inside."""
    token = _SEEN.set(seen := [])
    try:
        yield seen
    finally:
        _SEEN.reset(token)


class Hosted(OwnInit):
    """Mixin of a classifier in a head: takes maps too, and turns nodes of a tree into classes."""

    tree: nn.Module | None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tree = None

    def node_logits(self, x: Tensor) -> Tensor:
        """Logits of all outputs, last, of features ``(N, C)`` or maps ``(N, C, H, W)``."""
        return super().forward(x.movedim(1, -1) if x.ndim == 4 else x)  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of classes, at the place of the channels."""
        nodes = self.node_logits(x)
        seen = _SEEN.get()
        if seen is not None:
            seen.append((nodes, x))
        logits = nodes if self.tree is None else self.tree(nodes)
        return logits.movedim(-1, 1) if x.ndim == 4 else logits


class HostedLinear(Hosted, nn.Linear):
    """The linear classifier, for a tree without hyperbolic geometry."""

    def radius(self, x: Tensor) -> Tensor:
        """Lengths of features ``(..., C)``."""
        return x.norm(dim=-1)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        weight = state_dict.get(f'{prefix}weight')
        if weight is not None and weight.ndim == 4:  # of a 1x1 convolution
            state_dict[f'{prefix}weight'] = weight.flatten(1)
        super()._load_from_state_dict(state_dict, prefix, *args)


@cache
def _hosted(kind: type[nn.Module]) -> type[nn.Module]:
    name = f'Hosted{kind.__name__}'
    made = type(name, (Hosted, kind), {'__module__': __name__, '__doc__': kind.__doc__})
    return explain_arguments(made)


def __getattr__(name: str) -> type[nn.Module]:
    """The classes of :func:`_hosted` by name, for the unpickler."""
    for kind in CLASSIFIERS.values():
        if name == f'Hosted{kind.__name__}':
            return _hosted(kind)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def build_classifier(
    config: Mapping[str, Any] | None, in_features: int, num_outputs: int
) -> nn.Module:
    """Builds the classifier of a head.

    Args:
        config: ``type``, one of :data:`CLASSIFIERS`, and arguments; a linear layer if None.
        in_features: Width of the features.
        num_outputs: Number of outputs: classes, or nodes of a tree.

    Raises:
        TypeError: If it is no dict.
        ValueError: If the type is unknown or left out.
    """
    if config is None:
        return HostedLinear(in_features, num_outputs)
    if not isinstance(config, Mapping):
        raise TypeError(
            f'classifier must be a dict(type=..., ...) with a type of {sorted(CLASSIFIERS)}, got '
            f'{config!r}'
        )
    options = dict(config)
    name = str(options.pop('type', '')).removeprefix('hyper_mm.')
    if name not in CLASSIFIERS:
        raise ValueError(
            f'classifier.type must be one of {sorted(CLASSIFIERS)}, got {name!r}'
            f'{suggestion(name, CLASSIFIERS)}'
        )
    return _hosted(CLASSIFIERS[name])(in_features, num_outputs, **options)


class ClassifierMixin:
    """In front of a stock head: replaces its classifier and adds the losses of a tree.

    Args:
        *args: Arguments of the stock head.
        classifier: Type and arguments of a classifier, see :func:`build_classifier`; the type is
            one of ``'LorentzMLR'``, ``'PoincareMLR'``, ``'Busemann'``, ``'Prototypes'`` and
            ``'EuclideanMLR'``. The stock layer if None.
        taxonomy: ``file`` (or an object, see :meth:`hyper_mm.layers.taxonomy.Taxonomy.load`),
            ``loss`` (``'softmax'``: hierarchical softmax, whose class probabilities the losses of
            the head train; ``'tree_min'``: HieraSeg's consistent binary cross-entropy of all nodes
            besides them; ``'levels'``: cross-entropy of the groups at every level besides them),
            ``loss_weight``, ``triplet``, the weight of HieraSeg's tree-triplet loss of the features
            (0), and ``classes``, the names of the classes in the order of the data set (that of the
            file, if left out, must be the same).
        **kwargs: Arguments of the stock head.

    Raises:
        TypeError: If ``classifier`` or ``taxonomy`` is of another type.
        ValueError: For an unknown classifier, loss or key of the taxonomy, a tree that has not the
            classes of the head, or a loss of sigmoids with ``taxonomy.loss`` ``'softmax'`` or
            ``'tree_min'``, whose classes have logarithms of probabilities.
    """

    layer: str
    """Name of the stock layer."""
    background = 0
    """Outputs of the stock layer beside the classes."""

    def __init__(
        self,
        *args,
        classifier: Mapping[str, Any] | None = None,
        taxonomy: Mapping[str, Any] | str | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.taxonomy: Taxonomy | None = None
        self.tree_loss: nn.Module | None = None
        self.triplet_loss: nn.Module | None = None
        if classifier is None and taxonomy is None:
            return
        stock = getattr(self, self.layer, None)  # some heads of mmseg have none
        sizes = _sizes(stock)
        if sizes is None:
            raise ValueError(
                f'{type(self).__name__}.{self.layer} is {type(stock).__name__}, and only a linear '
                'layer or a 1x1 convolution can be replaced by classifier=...'
            )
        self._check_replaced()
        outputs, tree = sizes[1], None
        if taxonomy is not None:
            outputs, tree = self._plant(taxonomy, sizes[1])
        made = build_classifier(classifier, sizes[0], outputs)
        made.tree = tree
        setattr(self, self.layer, made)

    def _check_replaced(self) -> None:
        """Refuses arguments of the stock layer, which would have no effect."""

    def _plant(
        self, taxonomy: Mapping[str, Any] | str, num_classes: int
    ) -> tuple[int, nn.Module | None]:
        """Makes the losses of a tree; number of outputs, and what makes classes of them."""
        if not isinstance(taxonomy, (str, Path, Mapping)):
            raise TypeError(f'taxonomy must be a file or a dict, got {taxonomy!r}')
        options = dict(file=taxonomy) if isinstance(taxonomy, (str, Path)) else dict(taxonomy)
        file, classes = options.pop('file', None), options.pop('classes', None)
        loss = options.pop('loss', 'softmax')
        weight, triplet = options.pop('loss_weight', 1.0), options.pop('triplet', 0.0)
        if options or file is None:
            raise ValueError(
                'taxonomy must have the keys file, loss, loss_weight, triplet and classes, got '
                f'{sorted(taxonomy)}'
            )
        check_choice(TREE_LOSSES, loss=loss)
        check_not_negative(loss_weight=weight, triplet=triplet)
        tree = Taxonomy.load(file, classes)
        if self.background:
            raise ValueError('taxonomy is for heads without a class of background')
        if tree.num_classes != num_classes:
            raise ValueError(
                f'{tree.source} has {tree.num_classes} classes, the head has {num_classes}'
            )
        sigmoid = next(filter(_takes_sigmoids, self.modules()), None)  # type: ignore[attr-defined]
        if loss != 'levels' and sigmoid is not None:
            raise ValueError(
                f'taxonomy.loss={loss!r} makes logarithms of probabilities of the classes, which '
                f'have no sigmoid: the loss of the head must be one of a softmax, got '
                f"{type(sigmoid).__name__} with use_sigmoid=True (or take taxonomy.loss='levels')"
            )
        self.taxonomy = tree
        if triplet:
            self.triplet_loss = TreeTripletLoss(tree, loss_weight=triplet)
        if loss == 'levels':
            self.tree_loss = LevelLoss(tree, loss_weight=weight, leaves=False)
            return num_classes, None
        if loss == 'tree_min':
            self.tree_loss = TreeMinLoss(tree, loss_weight=weight)
            return tree.num_nodes, PathLogits(tree)
        return tree.num_nodes, TreeSoftmax(tree)

    @contextmanager
    def _watch(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Keeps what the classifier computes while the losses of the head are."""
        seen: list[tuple[Tensor, Tensor]] = []
        token = _SEEN.set(seen if self.tree_loss or self.triplet_loss else None)
        try:
            yield seen
        finally:
            _SEEN.reset(token)

    def _tree_losses(self, nodes: Tensor, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of rows of nodes ``(n, V)`` and features ``(n, C)``; -1 does not count."""
        found = {}
        if self.tree_loss is not None:
            found['loss_tree'] = self.tree_loss(nodes, labels)
        if self.triplet_loss is not None:
            found['loss_triplet'] = self.triplet_loss(features, labels)
        return found

    def embedding_radius(self, x: Tensor) -> Tensor:
        """Distances of embeddings from the origin: small where the classifier is uncertain.

        Args:
            x: What the classifier reads, features ``(N, C)`` or maps ``(N, C, H, W)``.

        Returns:
            ``(N,)`` or ``(N, H, W)``.
        """
        return getattr(self, self.layer).radius(x.movedim(1, -1) if x.ndim == 4 else x)


def _sizes(stock: nn.Module | None) -> tuple[int, int] | None:
    if isinstance(stock, nn.Linear):
        return stock.in_features, stock.out_features
    if isinstance(stock, nn.Conv2d) and stock.kernel_size == (1, 1) and stock.groups == 1:
        return stock.in_channels, stock.out_channels
    return None


def _takes_sigmoids(loss: nn.Module) -> bool:
    """Whether it is a loss of sigmoids of logits; that of mmpretrain's FocalLoss has no switch."""
    name = type(loss).__name__
    return name.endswith('Loss') and bool(getattr(loss, 'use_sigmoid', name == 'FocalLoss'))


class SegmentationMixin(ClassifierMixin):
    """Decode heads of mmseg."""

    layer = 'conv_seg'

    def loss(self, inputs: Any, batch_data_samples: list, train_cfg: Any) -> dict[str, Tensor]:
        """Losses of the stock head, and ``loss_tree`` and ``loss_triplet`` where there are any.

        The losses of the tree are computed at the resolution of the logits, with the label of the
        nearest pixel.
        """
        with self._watch() as seen:
            losses = super().loss(inputs, batch_data_samples, train_cfg)  # type: ignore[misc]
        if seen:
            nodes, x = seen[-1]
            labels = self._stack_batch_gt(batch_data_samples)  # type: ignore[attr-defined]
            labels = F.interpolate(labels.float(), x.shape[-2:], mode='nearest').long().flatten()
            ignored = labels == self.ignore_index  # type: ignore[attr-defined]
            rows = x.movedim(1, -1).flatten(0, 2)
            losses |= self._tree_losses(nodes.flatten(0, 2), rows, labels.masked_fill(ignored, -1))
        return losses

    def uncertainty(self, inputs: Any, size: tuple[int, int] | None = None) -> Tensor:
        """Map of uncertainty, the negative distance of the embeddings from the origin.

        Args:
            inputs: Feature maps of the backbone or neck.
            size: Height and width of the result (bilinear); those of the logits if None.

        Returns:
            ``(B, H, W)``, higher where the head is less certain.
        """
        with watched_classifiers() as seen:
            self.forward(inputs)  # type: ignore[attr-defined]
        if not seen:
            raise ValueError('uncertainty needs a head with classifier=... or taxonomy=...')
        found = -self.embedding_radius(seen[-1][1])
        if size is None:
            return found
        return F.interpolate(found[:, None], size, mode='bilinear')[:, 0]


class ImageMixin(ClassifierMixin):
    """Linear heads of mmpretrain."""

    layer = 'fc'

    def loss(self, feats: Any, data_samples: list, **kwargs) -> dict[str, Tensor]:
        """Losses of the stock head, and ``loss_tree`` and ``loss_triplet`` where there are any.

        Raises:
            ValueError: If labels are mixed (``gt_score``) and the tree has a loss of its own.
        """
        if (self.tree_loss or self.triplet_loss) and 'gt_score' in data_samples[0]:
            raise ValueError(
                'mixed labels (Mixup, CutMix) have no place in a tree: taxonomy.loss must be '
                "'softmax', and taxonomy.triplet 0"
            )
        with self._watch() as seen:
            losses = super().loss(feats, data_samples, **kwargs)  # type: ignore[misc]
        if seen:
            labels = torch.cat([sample.gt_label for sample in data_samples])
            losses |= self._tree_losses(*seen[-1], labels)
        return losses


class BoxMixin(ClassifierMixin):
    """Box heads of mmdet."""

    layer = 'fc_cls'
    background = 1

    def _check_replaced(self) -> None:
        given = getattr(self, 'cls_predictor_cfg', None)
        if given is not None and dict(given) != dict(type='Linear'):
            raise ValueError(
                f'cls_predictor_cfg has no effect beside classifier: leave it out, got {given}'
            )


HOSTS: dict[tuple[str, str], type[ClassifierMixin]] = {
    ('mmseg.models.decode_heads.decode_head', 'BaseDecodeHead'): SegmentationMixin,
    ('mmpretrain.models.heads.linear_head', 'LinearClsHead'): ImageMixin,
    ('mmdet.models.roi_heads.bbox_heads.bbox_head', 'BBoxHead'): BoxMixin,
}
"""Stock heads by module and name, and what is put in front of them and of those made from them."""


def mixin_of(kind: object) -> type[ClassifierMixin] | None:
    """The mixin for a class of heads; None if it is no head with a classifier."""
    if not isinstance(kind, type):
        return None
    for base in kind.__mro__:
        if (base.__module__, base.__name__) in HOSTS:
            return HOSTS[base.__module__, base.__name__]
    return None
