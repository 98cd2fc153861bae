"""Objectives that make a hierarchy follow the image; none is in the paper, all are off by default.

The contrastive loss of Hi-Mapper looks at distances between nodes alone. It is satisfied by nodes
that are the same in every image, by leaves that see the same positions, and by parents that look
elsewhere than their children. The terms here each rule one of these out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import check_not_negative

TERMS = ('reconstruction', 'balance', 'containment', 'entailment')


class StructureLoss(nn.Module):
    r"""Weighted terms on the assignment :math:`A_l` of positions to the nodes of level ``l``.

    ``A_l[n, m]`` is the probability that position ``m`` belongs to node ``n``; it sums to 1 over
    the nodes of a level.

    .. math::
        L_{rec} &= \operatorname*{mean}_{l, m} 1 - \cos\big(\textstyle\sum_n A_l[n, m]\, s_l[n],\
            \bar v_m\big) \\
        L_{bal} &= \operatorname*{mean}_l 1 - H\big(\operatorname*{mean}_{b, m} A_l\big) / \log N_l
            \\
        L_{con} &= \operatorname*{mean}_{l < L, m} -\log \textstyle\sum_p A_{l+1}[p, m]
            \sum_{n \in children(p)} A_l[n, m] \\
        L_{ent} &= \operatorname*{mean}_{l < L, n} \big[\Xi(h_{p(n)}, h_n) -
            \psi(h_{p(n)})\big]_+

    ``v`` bar are the features, standardized over the batch and without gradient: nodes must carry
    what is where, more coarsely at each level. Balance keeps all nodes in use. Containment makes
    the region of a parent that of its children. Entailment puts children into the cones of their
    parents (:mod:`hyper_mm.ops.entailment`), so that the radius grows from the top to the leaves.

    Args:
        reconstruction: Weight of the first term.
        balance: Weight of the second.
        containment: Weight of the third.
        entailment: Weight of the fourth.

    Raises:
        ValueError: If a weight is negative.
    """

    def __init__(
        self,
        reconstruction: float = 0.0,
        balance: float = 0.0,
        containment: float = 0.0,
        entailment: float = 0.0,
    ):
        super().__init__()
        weights = (reconstruction, balance, containment, entailment)
        check_not_negative(**{f'structure.{name}': w for name, w in zip(TERMS, weights)})
        self.weights = dict(zip(TERMS, weights))

    @property
    def needs_assignment(self) -> bool:
        """Whether a term looks at the assignment."""
        return any(self.weights[name] > 0 for name in TERMS[:3])

    @property
    def needs_lift(self) -> bool:
        """Whether a term looks at the lifted nodes."""
        return self.weights['entailment'] > 0

    def forward(
        self,
        levels: tuple[Tensor, ...],
        assignment: tuple[Tensor, ...] | None = None,
        memory: Tensor | None = None,
        cone_energies: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes the terms that have a weight.

        Args:
            levels: Node features ``(B, N_l, d)`` of each level, leaves first.
            assignment: ``A_l`` ``(B, N_l, M)`` of each level.
            memory: Features ``(B, M, d)``.
            cone_energies: Violations of the cones of all nodes but the top.

        Returns:
            The weighted terms by name, each 0-dimensional.

        Raises:
            ValueError: If a term with a weight lacks ``assignment`` or ``memory``.
        """
        values = {}
        if self.needs_assignment:
            if assignment is None:
                raise ValueError(f'assignment must be given for the terms {TERMS[:3]}, got None')
            if self.weights['reconstruction'] > 0:
                if memory is None:
                    raise ValueError("memory must be given for the term 'reconstruction', got None")
                values['reconstruction'] = reconstruction_loss(levels, assignment, memory)
            if self.weights['balance'] > 0:
                values['balance'] = balance_loss(assignment)
            if self.weights['containment'] > 0 and len(assignment) > 1:
                values['containment'] = containment_loss(assignment)
        if self.weights['entailment'] > 0 and cone_energies is not None:
            values['entailment'] = cone_energies.mean()
        return {name: self.weights[name] * value for name, value in values.items()}

    def extra_repr(self) -> str:
        return ', '.join(f'{name}={value:g}' for name, value in self.weights.items())


def reconstruction_loss(
    levels: tuple[Tensor, ...], assignment: tuple[Tensor, ...], memory: Tensor
) -> Tensor:
    """Error of the features rebuilt from the nodes of each region; see :class:`StructureLoss`.

    Args:
        levels: Node features ``(B, N_l, d)`` of each level.
        assignment: Assignment ``(B, N_l, M)`` of each level.
        memory: Features ``(B, M, d)``.

    Returns:
        A 0-dimensional tensor in [0, 2].
    """
    target = memory.detach().float()  # (B, M, d); standardized, or its mean would match already
    mean = target.mean((0, 1), keepdim=True)
    spread = (target - mean).square().mean((0, 1), keepdim=True)
    target = (target - mean) * (spread + 1e-6).rsqrt()
    terms = []
    for nodes, share in zip(levels, assignment):
        drawn = share.float().mT @ nodes.float()  # (B, M, N_l) @ (B, N_l, d)
        terms.append(1 - F.cosine_similarity(drawn, target, dim=-1, eps=1e-6).mean())
    return torch.stack(terms).mean()


def balance_loss(assignment: tuple[Tensor, ...]) -> Tensor:
    """Computes how unevenly a batch uses the nodes, in [0, 1]; see :class:`StructureLoss`."""
    terms = []
    for share in assignment:
        if share.shape[1] == 1:
            continue
        use = share.float().mean((0, 2))  # (N_l,), sums to 1
        entropy = torch.special.entr(use.clamp_min(1e-12)).sum()
        terms.append(1 - entropy / torch.tensor(float(len(use))).log())
    return torch.stack(terms).mean() if terms else assignment[0].new_zeros(())


def containment_loss(assignment: tuple[Tensor, ...]) -> Tensor:
    """Computes how far parents' regions are from their children's; see :class:`StructureLoss`."""
    terms = []
    for below, above in zip(assignment, assignment[1:]):
        # children of a node are consecutive: (B, N_l, M) -> (B, N_{l+1}, children, M), summed
        children = below.float().unflatten(1, (above.shape[1], -1)).sum(2)
        agreement = (children * above.float()).sum(1)
        terms.append(-agreement.clamp_min(1e-6).log().mean())
    return torch.stack(terms).mean()
