"""Contrast of tasks."""

import math

import pytest
import torch

from hyper_mm.layers import TaskContrast


def test_value_of_orthogonal_tasks():
    x = 3 * torch.eye(4, dtype=torch.float64)
    found = TaskContrast(0.5)(x, 7 * x)
    wanted = -math.log(math.exp(2) / (math.exp(2) + 3))
    assert abs(found.item() - wanted) < 1e-12


def test_pulls_a_task_together_and_others_apart():
    torch.manual_seed(0)
    support = torch.randn(4, 8, requires_grad=True)
    query = torch.randn(4, 8, requires_grad=True)
    optimizer = torch.optim.Adam([support, query], 0.1)
    for _ in range(100):
        loss = TaskContrast(0.2)(support, query)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosines = torch.nn.functional.cosine_similarity(support[:, None], query[None], -1)
    off = cosines[~torch.eye(4, dtype=torch.bool)]
    assert loss < 0.1 and cosines.diag().min() > off.max() + 0.5


def test_tasks_of_one_group_are_no_negatives():
    x = torch.randn(3, 5)
    loss = TaskContrast()
    assert loss(x, x, ['a', 'a', 'a']) == 0
    alone = loss(x[[0, 2]], x[[0, 2]])
    torch.testing.assert_close(loss(x[[0, 2]], x[[0, 2]], ['a', 'b']), alone)
    # with itself for a negative, a task could not come below log 2
    same = 10 * torch.eye(3)[[0, 0, 1]]
    assert loss(same, same, ['a', 'a', 'b']) < 0.01 < math.log(2) / 2 < loss(same, same)
    assert loss(x[:1], x[:1]) == 0


def test_zero_vectors_and_half_precision():
    x = torch.zeros(3, 4, dtype=torch.bfloat16, requires_grad=True)
    loss = TaskContrast()(x, x)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite() and x.grad.isfinite().all()


def test_bad_input():
    with pytest.raises(ValueError, match='temperature'):
        TaskContrast(0)
    with pytest.raises(ValueError, match='support and query'):
        TaskContrast()(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match='groups'):
        TaskContrast()(torch.zeros(2, 3), torch.zeros(2, 3), ['a'])
