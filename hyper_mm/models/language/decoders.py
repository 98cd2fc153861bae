"""Decoders of language models: HELM, and its Euclidean twin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyper_mm.layers.common.curvature import Curvature
from hyper_mm.layers.lorentz.attention import HMLA, LorentzAttention
from hyper_mm.layers.lorentz.block import LorentzBlock
from hyper_mm.layers.lorentz.cache import TokenCache
from hyper_mm.layers.lorentz.embedding import LorentzEmbedding, check_ids
from hyper_mm.layers.lorentz.euclidean import (
    MLA,
    EuclideanBlock,
    MoE,
    RMSNorm,
    RotaryAttention,
    SwiGLU,
)
from hyper_mm.layers.lorentz.ffn import LorentzSwiGLU
from hyper_mm.layers.lorentz.linear import LorentzLinear
from hyper_mm.layers.lorentz.mice import MiCE
from hyper_mm.layers.lorentz.norm import LorentzRMSNorm
from hyper_mm.layers.lorentz.routed_experts import RoutedExperts
from hyper_mm.ops.fused import lift
from hyper_mm.registry import MODELS

from .manifold_embedding import ManifoldEmbedding


class Decoder(nn.Module):
    """Base of both decoders: sizes, documents, caches and losses of the experts."""

    attentions: dict[str, type] = {}
    ffns: dict[str, type] = {}

    def __init__(self, vocab_size: int, depth: int, max_length: int, num_dense_layers: int):
        super().__init__()
        if min(vocab_size, depth, max_length) < 1:
            raise ValueError(
                'vocab_size, depth and max_length must be positive, got '
                f'{vocab_size}, {depth}, {max_length}'
            )
        if not 0 <= num_dense_layers <= depth:
            raise ValueError(f'num_dense_layers must be 0 to {depth}, got {num_dense_layers}')
        self.vocab_size, self.max_length = vocab_size, max_length

    def _part(self, what: str, dims: int, cfg: dict) -> nn.Module:
        """Builds an attention or a feed-forward network from its config."""
        known = {'attention': self.attentions, 'ffn': self.ffns}[what]
        cfg = dict(cfg)
        kind = cfg.pop('type', None)
        if kind not in known:
            raise ValueError(f'{what}.type must be one of {sorted(known)}, got {kind!r}')
        return known[kind](dims, **cfg)

    def _ffn_of(self, index: int, dims: int, ffn: dict, dense_ffn: dict | None, dense: int):
        """Feed-forward network of a layer; the first ``dense`` are not mixtures."""
        if dense and dense_ffn is None:
            raise ValueError(f'dense_ffn must be given for num_dense_layers = {dense}')
        return self._part('ffn', dims, dense_ffn if index < dense else ffn)

    def new_caches(self) -> list[TokenCache]:
        """Empty caches, one a layer, for :meth:`forward`."""
        return [TokenCache() for _ in self.blocks]

    def check_input(
        self, ids: Tensor, doc_ids: Tensor | None, caches: list[TokenCache] | None
    ) -> None:
        """Raises ValueError for wrong shapes and sequences longer than ``max_length``."""
        if ids.ndim != 2:
            raise ValueError(f'ids must be (B, N), got {tuple(ids.shape)}')
        if doc_ids is not None and doc_ids.shape != ids.shape:
            raise ValueError(
                f'doc_ids must be of the shape of ids, {tuple(ids.shape)}, '
                f'got {tuple(doc_ids.shape)}'
            )
        length = ids.shape[1] + (caches[0].length if caches else 0)
        if length > self.max_length:
            raise ValueError(
                f'sequences must be of max_length = {self.max_length} tokens at most, got {length}'
            )

    def aux_losses(self) -> dict[str, Tensor]:
        """Balance losses of the experts of the last forward pass, added up."""
        losses = [m.aux_losses() for m in self.modules() if isinstance(m, RoutedExperts)]
        losses = [loss['loss_balance'] for loss in losses if loss]
        return {'loss_balance': torch.stack(losses).sum()} if losses else {}

    def diagnostics(self) -> dict[str, Tensor]:
        """Numbers to log; none here."""
        return {}


def document_mask(doc_ids: Tensor | None) -> Tensor | None:
    """Which tokens are of the same document: ``(B, N)`` ids to bool ``(B, 1, N, N)``."""
    return None if doc_ids is None else (doc_ids[:, :, None] == doc_ids[:, None])[:, None]


@MODELS.register_module()
class HelmDecoder(Decoder):
    """Fully hyperbolic decoder: tokens to points of the hyperboloid.

    Embedding, blocks, a Lorentz linear map and a norm. Space parts are carried throughout.

    Args:
        vocab_size: Size of the vocabulary.
        dims: Space dimensions of a point (the release counts the time as well: 390 is 389 here).
        depth: Number of blocks.
        attention: ``dict(type='LorentzAttention', num_heads=...)`` or ``dict(type='HMLA', ...)``;
            see :class:`hyper_mm.layers.LorentzAttention`, :class:`hyper_mm.layers.HMLA`.
        ffn: ``dict(type='LorentzSwiGLU', hidden_dims=...)`` or ``dict(type='MiCE', ...)``.
        dense_ffn: The same, of the first ``num_dense_layers`` blocks.
        num_dense_layers: How many blocks have ``dense_ffn``.
        residual_scale: Scale of the residual connections; None: ``4 sqrt(dims + 1)``, HELM-D.
        curvature: Arguments of :class:`hyper_mm.layers.Curvature`; fixed to 1 by default.
        embedding: ``'projected'``: a table of space parts, for any optimiser; ``'manifold'``: one
            of points, for a Riemannian optimiser of geoopt; the curvature is then fixed.
        embedding_distance: Distance of the tokens' initial points to the origin. From 1, the
            release, the first attention drowns them, ``sqrt(dims)`` large as it is: 3 is about
            that size, and trains better.
        residual_weight: Weight of the branches of the residual connections at the start. The
            release has 1; with less, a block starts closer to the identity, and trains better.
        max_length: Longest sequence. Longer ones are refused: positions are not extrapolated.

    Raises:
        ValueError: For arguments that the parts refuse.

    Source: He et al., HELM: Hyperbolic Large Language Models via Mixture-of-Curvature Experts
    (NeurIPS 2025).
    """

    attentions = {'LorentzAttention': LorentzAttention, 'HMLA': HMLA}
    ffns = {'LorentzSwiGLU': LorentzSwiGLU, 'MiCE': MiCE}
    embeddings = {'projected': LorentzEmbedding, 'manifold': ManifoldEmbedding}

    def __init__(
        self,
        vocab_size: int,
        dims: int,
        depth: int,
        attention: dict,
        ffn: dict,
        dense_ffn: dict | None = None,
        num_dense_layers: int = 0,
        residual_scale: float | None = None,
        curvature: dict | None = None,
        embedding: str = 'projected',
        embedding_distance: float = 1.0,
        residual_weight: float = 1.0,
        max_length: int = 2048,
    ):
        super().__init__(vocab_size, depth, max_length, num_dense_layers)
        if embedding not in self.embeddings:
            raise ValueError(
                f'embedding must be one of {sorted(self.embeddings)}, got {embedding!r}'
            )
        self.curvature = Curvature(**{'learnable': False, **(curvature or {})})
        scale = 4 * (dims + 1) ** 0.5 if residual_scale is None else residual_scale
        if embedding == 'manifold' and self.curvature.learnable:
            raise ValueError(f"curvature must be fixed for embedding='manifold', got {curvature}")
        start = (curvature or {}).get('init', 1.0)
        self.embedding = self.embeddings[embedding](vocab_size, dims, start, embedding_distance)
        self.blocks = nn.ModuleList(
            LorentzBlock(
                dims,
                self._part('attention', dims, attention),
                self._ffn_of(i, dims, ffn, dense_ffn, num_dense_layers),
                scale,
                residual_weight,
            )
            for i in range(depth)
        )
        self.project = LorentzLinear(dims, dims)
        self.norm = LorentzRMSNorm(dims)
        self.out_dims = dims + 1

    def points(
        self,
        ids: Tensor,
        doc_ids: Tensor | None = None,
        caches: list[TokenCache] | None = None,
    ) -> Tensor:
        """Space parts of the final points ``(B, N, dims)``; see :meth:`forward`."""
        self.check_input(ids, doc_ids, caches)
        c, mask = self.curvature(), document_mask(doc_ids)
        x = self.embedding(ids)
        for i, block in enumerate(self.blocks):
            x = block(x, c, None if caches is None else caches[i], mask)
        return self.norm(self.project(x, c))

    def forward(
        self,
        ids: Tensor,
        doc_ids: Tensor | None = None,
        caches: list[TokenCache] | None = None,
    ) -> Tensor:
        """Computes the features that the logits are linear in.

        Args:
            ids: Token ids ``(B, N)``: whole sequences, or with caches their next tokens.
            doc_ids: Document of each token ``(B, N)``; tokens see their own document alone.
            caches: Of :meth:`new_caches`; filled on the way.

        Returns:
            Points with their time parts, ``(B, N, dims + 1)``.
        """
        return lift(self.points(ids, doc_ids, caches), self.curvature())

    def diagnostics(self) -> dict[str, Tensor]:
        """The curvatures learnt: ``curvature`` and those of the experts."""
        return {
            name: module().detach()
            for name, module in self.named_modules()
            if isinstance(module, Curvature) and module.learnable
        }


@MODELS.register_module()
class EuclideanDecoder(Decoder):
    """The Euclidean twin: a decoder like LLaMA's (dense) or DeepSeek's (latent attention, experts).

    Args:
        vocab_size: Size of the vocabulary.
        dims: Width.
        depth: Number of blocks.
        attention: ``dict(type='RotaryAttention', num_heads=...)`` or ``dict(type='MLA', ...)``.
        ffn: ``dict(type='SwiGLU', hidden_dims=...)`` or ``dict(type='MoE', ...)``.
        dense_ffn: The same, of the first ``num_dense_layers`` blocks.
        num_dense_layers: How many blocks have ``dense_ffn``.
        max_length: Longest sequence. Longer ones are refused.

    Raises:
        ValueError: For arguments that the parts refuse.
    """

    attentions = {'RotaryAttention': RotaryAttention, 'MLA': MLA}
    ffns = {'SwiGLU': SwiGLU, 'MoE': MoE}

    def __init__(
        self,
        vocab_size: int,
        dims: int,
        depth: int,
        attention: dict,
        ffn: dict,
        dense_ffn: dict | None = None,
        num_dense_layers: int = 0,
        max_length: int = 2048,
    ):
        super().__init__(vocab_size, depth, max_length, num_dense_layers)
        self.embedding = nn.Embedding(vocab_size, dims)
        self.blocks = nn.ModuleList(
            EuclideanBlock(
                dims,
                self._part('attention', dims, attention),
                self._ffn_of(i, dims, ffn, dense_ffn, num_dense_layers),
            )
            for i in range(depth)
        )
        self.norm = RMSNorm(dims)
        self.out_dims = dims
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(
        self,
        ids: Tensor,
        doc_ids: Tensor | None = None,
        caches: list[TokenCache] | None = None,
    ) -> Tensor:
        """Features ``(B, N, dims)``; see :meth:`HelmDecoder.forward`."""
        self.check_input(ids, doc_ids, caches)
        check_ids(ids, self.vocab_size)
        mask = document_mask(doc_ids)
        x = self.embedding(ids)
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i], mask)
        return self.norm(x)
