"""Token embedding for Riemannian optimizers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hyper_mm.layers.lorentz.embedding import LorentzEmbedding, check_ids
from hyper_mm.ops.fused import to_ambient


class ManifoldEmbedding(nn.Module):
    """Table of ambient points, as a manifold parameter of geoopt, HELM's form at 115 M and 120 M.

    Its optimizer must be one of geoopt's: see :class:`.HyperbolicOptimWrapperConstructor`. What is
    looked up are space components, so points that rounding has moved off the hyperboloid are on it
    again.

    Args:
        num_embeddings: Size of the vocabulary.
        embed_dims: Space dimensions.
        curvature: Curvature ``c``, fixed; geoopt's ``k`` is ``1 / c``.
        distance: Distance of the initial points to the origin.
        gain: 1: a table of points has no other.

    Raises:
        ImportError: If geoopt is not installed.
        ValueError: If a size or the distance is not positive, or the gain is not 1.
    """

    def __init__(
        self,
        num_embeddings: int,
        embed_dims: int,
        curvature: float = 1.0,
        distance: float = 1.0,
        gain: float = 1.0,
    ):
        super().__init__()
        if gain != 1:
            raise ValueError(f"gain must be 1 for embedding='manifold', got {gain}")
        try:
            import geoopt
        except ImportError as error:
            raise ImportError(
                "embedding='manifold' needs geoopt, which is not installed: pip install geoopt"
            ) from error
        initial = LorentzEmbedding(num_embeddings, embed_dims, curvature, distance).weight.detach()
        self.weight = geoopt.ManifoldParameter(
            to_ambient(initial, curvature), manifold=geoopt.Lorentz(k=1 / curvature)
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Looks up space components ``(..., embed_dims)``; see :class:`LorentzEmbedding`."""
        check_ids(ids, len(self.weight))
        return F.embedding(ids, self.weight)[..., 1:]
