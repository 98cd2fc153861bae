"""Scores of regions for class names: cosines, and their ensemble with those of a CLIP tower."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...checks import check_count, check_positive, check_range
from ...ops.stable import unit

NAMES_AT_A_TIME = 2048
GROUP = 64
"""Scores that are looked at together; see :func:`_top`."""


class NameFeatures(NamedTuple):
    """Text features of the names of some classes, class by class."""

    features: Tensor
    """``(U, D)``, unit vectors."""
    counts: tuple[int, ...]
    """Number of names of each of the T classes; their sum is U."""

    @classmethod
    def of(cls, features: Tensor, counts: Sequence[int] | None = None) -> NameFeatures:
        """Normalizes features, and checks the counts.

        Args:
            features: ``(U, D)``.
            counts: Names of each class; None: one each.

        Returns:
            The names.

        Raises:
            ValueError: If the counts are not positive, or do not add up to U.
        """
        counts = (1,) * len(features) if counts is None else tuple(counts)
        if min(counts, default=0) < 1 or sum(counts) != len(features):
            raise ValueError(
                f'counts must be positive and add up to the {len(features)} names, got {counts}'
            )
        return cls(unit(features.float()), counts)

    def __len__(self) -> int:
        return len(self.counts)

    def chunks(self, size: int) -> Iterator[tuple[slice, NameFeatures]]:
        """The classes in parts of about ``size`` names, each with the places of its classes."""
        ends, first, begin = list(accumulate(self.counts)), 0, 0
        while first < len(self.counts):
            last = first + 1
            while last < len(ends) and ends[last] - begin <= size:
                last += 1
            part = self.features[begin : ends[last - 1]], self.counts[first:last]
            yield slice(first, last), NameFeatures(*part)
            first, begin = last, ends[last - 1]

    def cosines(self, regions: Tensor) -> Tensor:
        """Largest cosine of each region with a name of each class.

        Args:
            regions: Unit vectors ``(..., D)``.

        Returns:
            ``(..., T)``.
        """
        found = regions @ self.features.T
        if len(self.features) == len(self.counts):
            return found
        owner = torch.arange(len(self), device=found.device)
        owner = owner.repeat_interleave(torch.tensor(self.counts, device=found.device))
        best = found.new_full((*found.shape[:-1], len(self)), -torch.inf)
        return best.scatter_reduce(-1, owner.expand_as(found), found, 'amax')


class RegionScores(NamedTuple):
    """The best pairs of a region and a class."""

    scores: Tensor
    """``(K,)``, descending."""
    regions: Tensor
    """``(K,)``, int64."""
    classes: Tensor
    """``(K,)``, int64."""


class NameClassifier(nn.Module):
    r"""Cosines of regions and class names by a temperature, beside a learned background.

    .. math:: l_{nt} = \max_{u \in t} \cos(v_n, e_u) / \tau, \qquad
        l_{n\varnothing} = \cos(v_n, b) / \tau

    It has no weights for the classes: they can be others at each call.

    Args:
        embed_dims: Width D of the features.
        temperature: :math:`\tau`.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(self, embed_dims: int, temperature: float = 0.01):
        super().__init__()
        check_count(1, embed_dims=embed_dims)
        check_positive(temperature=temperature)
        self.temperature = temperature
        self.background = nn.Parameter(torch.randn(embed_dims) * embed_dims**-0.5)

    def forward(self, regions: Tensor, names: NameFeatures) -> Tensor:
        """Computes the logits of all classes, the background last.

        Args:
            regions: Features ``(..., D)``, not normalized.
            names: Features of T classes.

        Returns:
            Logits ``(..., T + 1)``, of at least float32.

        Raises:
            ValueError: If the widths differ.
        """
        width = len(self.background)
        if regions.shape[-1] != width or names.features.shape[-1] != width:
            raise ValueError(
                f'regions and names must have the width {width}, got {regions.shape[-1]} and '
                f'{names.features.shape[-1]}'
            )
        with torch.autocast(regions.device.type, enabled=False):
            regions = unit(regions.float())
            background = regions @ unit(self.background.float())
            logits = torch.cat([names.cosines(regions), background.unsqueeze(-1)], -1)
            return logits / self.temperature


class ScoreEnsemble(nn.Module):
    r"""Geometric mean of the scores of a trained classifier and of a CLIP tower.

    .. math:: s_{nt} = z_{nt}^{1 - \gamma_t} \, w_{nt}^{\gamma_t}, \qquad
        \gamma_t = \alpha \text{ for classes seen in training, else } \beta

    with z the softmax of the classifier over all classes and the background, and w the softmax of
    the tower's cosines over all classes.

    Args:
        base: :math:`\alpha`, in [0, 1].
        novel: :math:`\beta`, in [0, 1].
        temperature: Of the tower's cosines.
        chunk: Names at a time: memory is that of (regions, ``chunk``), whatever their number.

    Raises:
        ValueError: If an exponent lies outside of [0, 1], or another number is not positive.

    Source: exponents of F-VLM (Kuo et al., ICLR 2023): 0.35 and 0.65; of FC-CLIP (Yu et al.,
    NeurIPS 2023): 0.4 and 0.8.
    """

    def __init__(
        self,
        base: float = 0.35,
        novel: float = 0.65,
        temperature: float = 0.01,
        chunk: int = NAMES_AT_A_TIME,
    ):
        super().__init__()
        check_range('[0, 1]', base=base, novel=novel)
        check_positive(temperature=temperature)
        check_count(1, chunk=chunk)
        self.base, self.novel, self.temperature, self.chunk = base, novel, temperature, chunk

    def exponents(self, seen: Tensor) -> Tensor:
        """Exponents ``(T,)`` of the tower's scores of classes that were seen in training or not."""
        return torch.where(seen, self.base, self.novel).to(torch.float32)

    def log_scores(
        self, logits: Tensor, tower: Tensor, names: NameFeatures, seen: Tensor
    ) -> Tensor:
        """All scores at once, as logarithms.

        Args:
            logits: Of the classifier ``(..., T + 1)``, the background last.
            tower: Features of the tower ``(..., D)``.
            names: Features of the classes.
            seen: Whether each class was seen in training ``(T,)``.

        Returns:
            Logarithms of the scores ``(..., T)``; the background has none.
        """
        mine = logits.float().log_softmax(-1)[..., :-1]
        cosines = names.cosines(unit(tower.float())) / self.temperature
        return torch.lerp(mine, cosines.log_softmax(-1), self.exponents(seen))

    def probabilities(
        self, logits: Tensor, tower: Tensor, names: NameFeatures, seen: Tensor
    ) -> Tensor:
        r"""Probabilities of the classes of segments, and of none of them.

        As in FC-CLIP, both softmaxes are over the classes alone; their normalized geometric mean is
        scaled by the probability that the classifier gives to all classes together.

        Args:
            logits: Of the classifier ``(..., T + 1)``, "no object" last.
            tower: Features of the tower ``(..., D)``.
            names: Features of the classes.
            seen: Whether each class was seen in training ``(T,)``.

        Returns:
            ``(..., T + 1)``, which sum to one.
        """
        with torch.autocast(tower.device.type, enabled=False):
            logits = logits.float()
            nothing = logits.softmax(-1)[..., -1:]
            cosines = names.cosines(unit(tower.float())) / self.temperature
            mean = torch.lerp(
                logits[..., :-1].log_softmax(-1),
                cosines.log_softmax(-1),
                self.exponents(seen.to(tower.device)),
            )
            return torch.cat([mean.softmax(-1) * (1 - nothing), nothing], -1)

    @torch.no_grad()
    def best(
        self,
        classifier: NameClassifier,
        regions: Tensor,
        tower: Tensor,
        names: NameFeatures,
        seen: Tensor,
        keep: int = 1000,
        threshold: float = 0.0,
    ) -> RegionScores:
        """The best pairs of a region and a class, in memory bounded in the number of names.

        With more names than ``chunk``, their cosines are computed twice: for the normalization, and
        for the scores.

        Args:
            classifier: The trained classifier.
            regions: Its features ``(N, D)``.
            tower: Features of the tower ``(N, D')``.
            names: Features of T classes.
            seen: Whether each class was seen in training ``(T,)``.
            keep: Pairs to return at most.
            threshold: Least score of a pair.

        Returns:
            The pairs, the best first.

        Raises:
            ValueError: If there are not as many features of the tower as regions, or ``seen`` is
                not one flag a class.
        """
        if len(regions) != len(tower):
            raise ValueError(f'tower must have {len(regions)} features, got {len(tower)}')
        if seen.shape != (len(names),):
            raise ValueError(f'seen must be ({len(names)},), got {tuple(seen.shape)}')
        device = regions.device.type
        with torch.autocast(device, enabled=False):
            mine, theirs = unit(regions.float()), unit(tower.float())
            exponents = self.exponents(seen.to(regions.device))
            parts = list(names.chunks(self.chunk))
            mean, other = mine @ unit(classifier.background.float()) / classifier.temperature, None
            kept = None
            for _, part in parts:  # normalizations over all names, and the background
                kept = self._logits(classifier, mine, theirs, part)
                mean = torch.logaddexp(mean, kept[0].logsumexp(1))
                own = kept[1].logsumexp(1)
                other = own if other is None else torch.logaddexp(other, own)
            assert kept is not None and other is not None  # a vocabulary has at least one class
            found = None
            for place, part in parts:
                if len(parts) > 1:
                    kept = self._logits(classifier, mine, theirs, part)
                scores = torch.lerp(
                    kept[0].sub_(mean[:, None]), kept[1].sub_(other[:, None]), exponents[place]
                )
                found = _merge(found, _top(scores, place.start, keep), keep)
        assert found is not None
        scores = found.scores.exp()
        wanted = int((scores >= threshold).sum())
        return RegionScores(scores[:wanted], found.regions[:wanted], found.classes[:wanted])

    def _logits(
        self, classifier: NameClassifier, mine: Tensor, theirs: Tensor, part: NameFeatures
    ) -> tuple[Tensor, Tensor]:
        if mine.shape[1] != part.features.shape[1]:
            raise ValueError(
                f'regions must have the width {part.features.shape[1]} of the names, got '
                f'{mine.shape[1]}'
            )
        return (
            part.cosines(mine).div_(classifier.temperature),
            part.cosines(theirs).div_(self.temperature),
        )


def _top(scores: Tensor, first: int, keep: int) -> RegionScores:
    """The best pairs of ``(N, t)``, whose classes begin at ``first``.

    As many groups of scores as are wanted have a maximum of at least ``bound``, so the best scores
    have, too: the others need no sorting.
    """
    flat = scores.flatten()
    count = len(flat) // GROUP
    groups = flat[: count * GROUP].view(count, GROUP).amax(1)
    index = None
    if len(groups) > keep:
        bound = groups.topk(keep, sorted=False).values.amin()
        index = (flat >= bound).nonzero()[:, 0]
        flat = flat[index]
    values, place = flat.topk(min(keep, len(flat)))
    index = place if index is None else index[place]
    return RegionScores(values, index // scores.shape[1], first + index % scores.shape[1])


def _merge(old: RegionScores | None, new: RegionScores, keep: int) -> RegionScores:
    if old is None:
        return new
    values = torch.cat([old.scores, new.scores])
    best = values.topk(min(keep, len(values))).indices
    rows = (torch.cat([a, b])[best] for a, b in zip(old, new))
    return RegionScores(*rows)
