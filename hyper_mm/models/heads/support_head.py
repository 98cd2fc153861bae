"""What heads share that classify by the prototypes of a support."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_OF_THIS_CALL: ContextVar[Tensor | None] = ContextVar('hyper_mm_prototypes', default=None)


class SupportHead:
    """Mixin of heads with prototypes: those of the call in this thread, or those that were set.

    A subclass defines :meth:`prototypes_of`.
    """

    prototypes: Tensor | None = None

    def prototypes_of(self, inputs: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Prototypes of a support.

        Args:
            inputs: What the head takes of the support images.
            labels: Their labels.
        """
        raise NotImplementedError

    def current_prototypes(self) -> Tensor:
        """Prototypes to classify by.

        Raises:
            RuntimeError: If no support has been set.
        """
        found = _OF_THIS_CALL.get()
        found = self.prototypes if found is None else found
        if found is None:
            raise RuntimeError(f'{type(self).__name__} has no prototypes: call set_support first')
        return found

    def set_support(self, inputs: Sequence[Tensor], labels: Tensor) -> None:
        """Sets the prototypes of all calls from now on, in all threads, without gradients.

        Args:
            inputs: What the head takes of the support images.
            labels: Their labels.
        """
        self.prototypes = self.prototypes_of(inputs, labels).detach()

    @contextmanager
    def using(self, prototypes: Tensor) -> Iterator[None]:
        """Context in which this thread's calls take other prototypes.

        Args:
            prototypes: Of :meth:`prototypes_of`.
        """
        token = _OF_THIS_CALL.set(prototypes)
        try:
            yield
        finally:
            _OF_THIS_CALL.reset(token)
