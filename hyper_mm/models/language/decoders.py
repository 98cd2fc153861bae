"""Decoders of language models: HELM, and its Euclidean baseline."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyper_mm.checks import check_choice, check_positive, check_range
from hyper_mm.deprecation import renamed_arguments
from hyper_mm.layers.common.curvature import Curvature
from hyper_mm.layers.common.saved_options import (
    EXTRA,
    SavedOptions,
    decode_options,
    encode_options,
)
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
from hyper_mm.layers.lorentz.hope import HoPE
from hyper_mm.layers.lorentz.initialization import gain_of, initialize_maps
from hyper_mm.layers.lorentz.linear import LorentzLinear
from hyper_mm.layers.lorentz.mice import MiCE
from hyper_mm.layers.lorentz.norm import LorentzRMSNorm
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.ops.fused import to_ambient
from hyper_mm.registry import MODELS

from .manifold_embedding import ManifoldEmbedding


class Decoder(OwnInit, nn.Module):
    """Base of both decoders: sizes, documents, caches and losses of the experts."""

    attentions: dict[str, type] = {}
    ffns: dict[str, type] = {}

    def __init__(self, vocab_size: int, depth: int, max_length: int, num_dense_layers: int):
        super().__init__()
        check_positive(vocab_size=vocab_size, depth=depth, max_length=max_length)
        check_range(f'[0, {depth}]', num_dense_layers=num_dense_layers)
        self.vocab_size, self.max_length = vocab_size, max_length

    def _part(self, what: str, embed_dims: int, cfg: dict) -> nn.Module:
        """Builds an attention or a feed-forward network from its config."""
        known = {'attention': self.attentions, 'ffn': self.ffns}[what]
        cfg = dict(cfg)
        kind = cfg.pop('type', None)
        check_choice(sorted(known), **{f'{what}.type': kind})
        return known[kind](embed_dims, **cfg)

    def _ffn_of(self, index: int, embed_dims: int, ffn: dict, dense_ffn: dict | None, dense: int):
        """Feed-forward network of a layer; the first ``dense`` are not mixtures."""
        if dense and dense_ffn is None:
            raise ValueError(f'dense_ffn must be given for num_dense_layers = {dense}, got None')
        return self._part('ffn', embed_dims, dense_ffn if index < dense else ffn)

    def new_caches(self, capacity: int = 64) -> list[TokenCache]:
        """Returns empty caches, one for each layer, for :meth:`forward`.

        Args:
            capacity: Tokens that there is room for from the first on; more make them grow.
        """
        return [TokenCache(capacity) for _ in self.blocks]

    def _scale_positions(self, scale: float) -> None:
        """Multiplies all positions by a factor."""
        check_positive(position_scale=scale)
        for module in self.modules():
            if isinstance(module, HoPE):
                module.scale = scale

    def token_mask(
        self,
        ids: Tensor,
        doc_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        caches: list[TokenCache] | None = None,
    ) -> Tensor | None:
        """Checks an input and computes which tokens a token may see, besides the causal order.

        Padding is a document of its own: no token sees it, and it sees itself, so that no row of
        the attention is empty. Positions are rotations, and scores depend on differences of
        positions alone: tokens behind padding are as they would be without.

        Args:
            ids: Token ids ``(B, N)``.
            doc_ids: Document of each token ``(B, M)``; M - N tokens are in the caches.
            attention_mask: 1 for tokens and 0 for padding, ``(B, M)``.
            caches: Caches of :meth:`new_caches`.

        Returns:
            Bool ``(B, 1, N, M)``, True where a token may see another one; None if all may.

        Raises:
            ValueError: For wrong shapes, and for sequences longer than ``max_length``.
            TypeError: If the mask is not of integers or bool.
        """
        if ids.ndim != 2:
            raise ValueError(f'ids must be (B, N), got {tuple(ids.shape)}')
        kept = caches[0].length if caches else 0
        shape = (len(ids), kept + ids.shape[1])
        if shape[1] > self.max_length:
            raise ValueError(
                f'sequences must be of max_length = {self.max_length} tokens at most, '
                f'got {shape[1]}'
            )
        groups = []
        for name, labels in (('doc_ids', doc_ids), ('attention_mask', attention_mask)):
            if labels is None:
                continue
            if tuple(labels.shape) != shape:
                what = f' with the {kept} tokens of the caches' if kept else ''
                raise ValueError(
                    f'{name} must be of the shape of ids{what}, {shape}, got {tuple(labels.shape)}'
                )
            if name == 'attention_mask':
                labels = check_mask(labels)
            groups.append(same_group(labels, ids.shape[1]))
        return torch.stack(groups).all(0) if len(groups) > 1 else groups[0] if groups else None

    def _embed(self, ids: Tensor) -> Tensor:
        """Embeds ids ``(B, N)``, which must be below ``vocab_size``."""
        return self.embedding(ids)

    def _run_blocks(
        self,
        ids: Tensor,
        doc_ids: Tensor | None,
        caches: list[TokenCache] | None,
        attention_mask: Tensor | None,
        *shared: Tensor | float,
    ) -> Tensor:
        """Embeds ids and runs the blocks, which all take ``shared``; see :meth:`token_mask`."""
        mask = self.token_mask(ids, doc_ids, attention_mask, caches)
        counted = None if attention_mask is None else attention_mask[:, -ids.shape[1] :] != 0
        x = self._embed(ids)
        for i, block in enumerate(self.blocks):
            x = block(x, *shared, None if caches is None else caches[i], mask, counted)
        return x

    def diagnostics(self) -> dict[str, Tensor]:
        """Returns the numbers to log; none here."""
        return {}


def same_group(groups: Tensor, new: int) -> Tensor:
    """Which tokens are in one group: ``(B, M)`` numbers to bool ``(B, 1, new, M)``."""
    return (groups[:, -new:, None] == groups[:, None])[:, None]


def check_mask(mask: Tensor) -> Tensor:
    """Casts a mask of 0 and 1 to bool.

    Raises:
        TypeError: For another dtype than bool and integers: an additive mask would be misread.
    """
    if mask.is_floating_point() or mask.is_complex():
        raise TypeError(
            'attention_mask must be bool or integers, 1 for tokens and 0 for padding, '
            f'got {mask.dtype}'
        )
    return mask != 0


@MODELS.register_module()
class HelmDecoder(SavedOptions, Decoder):
    """Fully hyperbolic decoder: tokens to points of the hyperboloid.

    Embedding, blocks, a Lorentz linear map and a norm. Space components are carried throughout.

    ``embedding_gain`` and ``residual_scale`` are saved with the weights. Where they are left open,
    those of loaded weights are taken over; where they are given, others are refused. Weights of
    before they were saved have those of the official code, or those that are given.

    Args:
        vocab_size: Size of the vocabulary.
        embed_dims: Space dimensions of a point (the official code counts the time as well: 390 is
            389 here).
        depth: Number of blocks.
        attention: ``dict(type='LorentzAttention', num_heads=...)`` or ``dict(type='HMLA', ...)``;
            see :class:`hyper_mm.layers.LorentzAttention`, :class:`hyper_mm.layers.HMLA`.
        ffn: ``dict(type='LorentzSwiGLU', hidden_dims=...)`` or ``dict(type='MiCE', ...)``.
        dense_ffn: The same, of the first ``num_dense_layers`` blocks.
        num_dense_layers: How many blocks have ``dense_ffn``.
        residual_scale: Scale of the residual connections; None: ``sqrt(embed_dims + 1)`` (with
            ``init_std=None`` ``4 sqrt(embed_dims + 1)``, HELM-D's in the official code), or that of
            the weights that are loaded.
        curvature: Arguments of :class:`hyper_mm.layers.Curvature`; fixed to 1 by default.
        embedding: ``'projected'``: a table of space components, for any optimizer; ``'manifold'``:
            one of points, for a Riemannian optimizer of geoopt; the curvature is then fixed.
        init_std: Standard deviation of all linear maps at initialization, see
            :func:`.initialize_maps`; None: the official code's initialization, from which the loss
            falls far slower.
        embedding_distance: Distance of the tokens' initial points from the origin.
        embedding_gain: Fixed factor between the table of ``embedding='projected'`` and the points;
            None: what makes the deviation of the table ``init_std`` (1 with ``init_std=None``), or
            that of the weights that are loaded.
        residual_weight: Initial weight of the branches of the residual connections.
        max_length: Longest sequence. Longer ones are refused: positions are not extrapolated.
        position_scale: Factor of all positions. To run a model on sequences k times as long as it
            was trained with, take k times its ``max_length`` and ``1 / k``.

    Raises:
        ValueError: For arguments that the parts refuse.

    Source: He et al., HELM: Hyperbolic Large Language Models via Mixture-of-Curvature Experts
    (NeurIPS 2025).
    """

    attentions = {'LorentzAttention': LorentzAttention, 'HMLA': HMLA}
    ffns = {'LorentzSwiGLU': LorentzSwiGLU, 'MiCE': MiCE}
    embeddings = {'projected': LorentzEmbedding, 'manifold': ManifoldEmbedding}

    @renamed_arguments(dims='embed_dims')
    def __init__(
        self,
        vocab_size: int,
        embed_dims: int,
        depth: int,
        attention: dict,
        ffn: dict,
        dense_ffn: dict | None = None,
        num_dense_layers: int = 0,
        residual_scale: float | None = None,
        curvature: dict | None = None,
        embedding: str = 'projected',
        init_std: float | None = 0.02,
        embedding_distance: float = 1.0,
        embedding_gain: float | None = None,
        residual_weight: float = 1.0,
        max_length: int = 2048,
        position_scale: float = 1.0,
    ):
        super().__init__(vocab_size, depth, max_length, num_dense_layers)
        check_choice(sorted(self.embeddings), embedding=embedding)
        self.curvature = Curvature(**{'learnable': False, **(curvature or {})})
        if embedding == 'manifold' and self.curvature.learnable:
            raise ValueError(f"curvature must be fixed for embedding='manifold', got {curvature}")
        initial = (curvature or {}).get('init', 1.0)
        check_range('(0, inf)', embedding_distance=embedding_distance)
        self._given = dict(embedding_gain=embedding_gain, residual_scale=residual_scale)
        self._official = dict(embedding_gain=1.0, residual_scale=4 * (embed_dims + 1) ** 0.5)
        chosen = dict(self._official)
        if init_std is not None:
            check_range('(0, inf)', init_std=init_std)
            chosen['residual_scale'] /= 4
            if embedding == 'projected':
                chosen['embedding_gain'] = gain_of(
                    embed_dims, init_std, initial, embedding_distance
                )
        chosen |= {name: value for name, value in self._given.items() if value is not None}
        self.embedding = self.embeddings[embedding](
            vocab_size, embed_dims, initial, embedding_distance, chosen['embedding_gain']
        )
        self.blocks = nn.ModuleList(
            LorentzBlock(
                embed_dims,
                self._part('attention', embed_dims, attention),
                self._ffn_of(i, embed_dims, ffn, dense_ffn, num_dense_layers),
                chosen['residual_scale'],
                residual_weight,
            )
            for i in range(depth)
        )
        self.project = LorentzLinear(embed_dims, embed_dims)
        self.norm = LorentzRMSNorm(embed_dims)
        self.out_dims = embed_dims + 1
        initialize_maps(self, init_std)
        self._scale_positions(position_scale)

    def saved_options(self) -> dict[str, object]:
        """The scale of the residual connections and the gain of the embedding."""
        gain = getattr(self.embedding, 'gain', 1.0)
        return dict(embedding_gain=gain, residual_scale=self.blocks[0].res1.scale)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Takes over the options of the weights, as far as they were left open at construction."""
        where = f'{prefix}{EXTRA}'
        if where in state_dict:
            saved = decode_options(state_dict[where])
        elif any(name.startswith(f'{prefix}blocks.') for name in state_dict):
            # of before options were saved, or of the official code
            given = {name: value for name, value in self._given.items() if value is not None}
            saved = {**self._official, **given}
            state_dict[where] = encode_options(saved)
        else:
            saved = {}
        if self._given['embedding_gain'] is None and hasattr(self.embedding, 'gain'):
            self.embedding.gain = saved.get('embedding_gain', self.embedding.gain)
        if self._given['residual_scale'] is None and 'residual_scale' in saved:
            for block in self.blocks:
                block.res1.scale = block.res2.scale = saved['residual_scale']
        super()._load_from_state_dict(state_dict, prefix, *args)

    def points(
        self,
        ids: Tensor,
        doc_ids: Tensor | None = None,
        caches: list[TokenCache] | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Space components of the final points ``(B, N, embed_dims)``; see :meth:`forward`."""
        c = self.curvature.constant()
        x = self._run_blocks(ids, doc_ids, caches, attention_mask, c)
        return self.norm(self.project(x, c))

    def forward(
        self,
        ids: Tensor,
        doc_ids: Tensor | None = None,
        caches: list[TokenCache] | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Computes the features that the logits are linear in.

        Args:
            ids: Token ids ``(B, N)``: whole sequences, or with caches their next tokens.
            doc_ids: Document of each of the ``M`` tokens, those of the caches first, ``(B, M)``;
                tokens see their own document alone.
            caches: Of :meth:`new_caches`; the new tokens are added.
            attention_mask: 1 for tokens and 0 for padding, at any place, ``(B, M)``. What is
                computed at padding has no meaning.

        Returns:
            Ambient points ``(B, N, embed_dims + 1)``, time first.
        """
        points = self.points(ids, doc_ids, caches, attention_mask)
        return to_ambient(points, self.curvature.constant())

    def diagnostics(self) -> dict[str, Tensor]:
        """The learned curvatures: ``curvature`` and those of the experts."""
        return {
            name: module().detach()
            for name, module in self.named_modules()
            if isinstance(module, Curvature) and module.learnable
        }


@MODELS.register_module()
class EuclideanDecoder(Decoder):
    """Euclidean baseline: a decoder like LLaMA's (dense) or DeepSeek's (latent attention, experts).

    Args:
        vocab_size: Size of the vocabulary.
        embed_dims: Width of a token.
        depth: Number of blocks.
        attention: ``dict(type='RotaryAttention', num_heads=...)`` or ``dict(type='MLA', ...)``.
        ffn: ``dict(type='SwiGLU', hidden_dims=...)`` or ``dict(type='MoE', ...)``.
        dense_ffn: The same, of the first ``num_dense_layers`` blocks.
        num_dense_layers: How many blocks have ``dense_ffn``.
        max_length: Longest sequence. Longer ones are refused.
        position_scale: See :class:`HelmDecoder`.

    Raises:
        ValueError: For arguments that the parts refuse.
    """

    attentions = {'RotaryAttention': RotaryAttention, 'MLA': MLA}
    ffns = {'SwiGLU': SwiGLU, 'MoE': MoE}

    @renamed_arguments(dims='embed_dims')
    def __init__(
        self,
        vocab_size: int,
        embed_dims: int,
        depth: int,
        attention: dict,
        ffn: dict,
        dense_ffn: dict | None = None,
        num_dense_layers: int = 0,
        max_length: int = 2048,
        position_scale: float = 1.0,
    ):
        super().__init__(vocab_size, depth, max_length, num_dense_layers)
        self.embedding = nn.Embedding(vocab_size, embed_dims)
        self.blocks = nn.ModuleList(
            EuclideanBlock(
                embed_dims,
                self._part('attention', embed_dims, attention),
                self._ffn_of(i, embed_dims, ffn, dense_ffn, num_dense_layers),
            )
            for i in range(depth)
        )
        self.norm = RMSNorm(embed_dims)
        self.out_dims = embed_dims
        self._scale_positions(position_scale)
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
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Features ``(B, N, embed_dims)``; see :meth:`HelmDecoder.forward`."""
        return self.norm(self._run_blocks(ids, doc_ids, caches, attention_mask))

    def _embed(self, ids: Tensor) -> Tensor:
        check_ids(ids, self.vocab_size)
        return self.embedding(ids)
