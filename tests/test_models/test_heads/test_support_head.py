"""Prototypes of a call, and those that were set."""

import pytest
import torch

from hyper_mm.models.heads.support_head import SupportHead


class Head(SupportHead):
    def prototypes_of(self, inputs, labels):
        return inputs[0] + labels


def test_prototypes_of_the_call_go_first():
    head, one = Head(), torch.ones(2)
    with pytest.raises(RuntimeError, match='Head has no prototypes: call set_support first'):
        head.current_prototypes()
    head.set_support([one.clone().requires_grad_()], one)
    assert not head.current_prototypes().requires_grad
    with head.using(7 * one):
        assert head.current_prototypes()[0] == 7
        with head.using(8 * one):
            assert head.current_prototypes()[0] == 8
        assert head.current_prototypes()[0] == 7
    assert head.current_prototypes()[0] == 2


def test_prototypes_are_the_heads_matter():
    with pytest.raises(NotImplementedError):
        SupportHead().prototypes_of([], torch.zeros(1))
