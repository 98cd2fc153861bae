"""The versions of torch that setup.py promises."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hyper_mm import compat

ROOT = Path(__file__).resolve().parents[1]


def test_compiling_is_known_before_torch_2_3(monkeypatch):
    monkeypatch.delattr(torch.compiler, 'is_compiling', raising=False)
    try:
        importlib.reload(compat)
        monkeypatch.setitem(sys.modules, 'torch._dynamo', None)
        assert compat.is_compiling() is False
        for state in (True, False):
            dynamo = SimpleNamespace(is_compiling=lambda state=state: state)
            monkeypatch.setitem(sys.modules, 'torch._dynamo', dynamo)
            assert compat.is_compiling() is state
    finally:
        monkeypatch.undo()
        importlib.reload(compat)
    if hasattr(torch.compiler, 'is_compiling'):
        assert compat._is_compiling is torch.compiler.is_compiling


def test_layers_compute_without_it():
    code = """
import pytest
import torch
vars(torch.compiler).pop('is_compiling', None)
from hyper_mm.layers import HierarchyMapper
from hyper_mm.ops import lorentz
mapper = HierarchyMapper(16, num_leaves=8, num_levels=3, width=8, num_heads=2)
mapper(torch.randn(2, 9, 16), torch.randn(2, 1, 16)).token.sum().backward()
x = torch.randn(4, 3)
lorentz.pairwise_dist(x, x, c=1.0)
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_it_is_asked_in_one_place():
    for path in (ROOT / 'hyper_mm').rglob('*.py'):
        if path.name != 'compat.py':
            assert not re.search(r'torch\.(compiler|_dynamo)', path.read_text()), path


def test_backward_is_recognized():
    found = []

    class Ask(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            found.append(compat.in_backward())
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            found.append(compat.in_backward())
            return grad

    Ask.apply(torch.ones(1, requires_grad=True)).backward()
    assert found == [False, True] and not compat.in_backward()


def test_autocast_of_a_device(monkeypatch):
    assert not compat.is_autocasting('cpu') and not compat.is_autocasting('cuda')
    with torch.autocast('cpu', torch.bfloat16):
        assert compat.is_autocasting('cpu') and not compat.is_autocasting('cuda')
    monkeypatch.delattr(torch, 'get_autocast_dtype', raising=False)  # torch 2.1 to 2.3
    monkeypatch.setattr(torch, 'is_autocast_enabled', lambda: False)
    try:
        importlib.reload(compat)
        for state in (True, False):
            monkeypatch.setattr(torch, 'is_autocast_cpu_enabled', lambda state=state: state)
            assert compat.is_autocasting('cpu') is state and compat.is_autocasting('cuda') is False
    finally:
        monkeypatch.undo()
        importlib.reload(compat)


def test_batches_of_gradients_are_told_without_a_function_for_it(monkeypatch):
    """torch 2.1 names them among the keys of dispatch alone."""
    parse = getattr(torch._C, '_dispatch_key_parse', None) or torch._C._parse_dispatch_key
    monkeypatch.setattr(torch._C, '_dispatch_key_parse', parse, raising=False)
    monkeypatch.delattr(torch._C._functorch, 'is_legacy_batchedtensor', raising=False)
    found = []

    class Ask(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            found.append(compat.is_legacy_batched(grad))
            return grad * 2

    try:
        importlib.reload(compat)
        x = torch.ones(3, requires_grad=True)
        y = Ask.apply(x)
        for shape, batched in (((3,), False), ((4, 3), True)):
            torch.autograd.grad(
                y, x, torch.ones(shape), retain_graph=True, is_grads_batched=batched
            )
        assert found == [False, True]
    finally:
        monkeypatch.undo()
        importlib.reload(compat)


class Doubled(torch.nn.Module):
    """Doubles where it is exported, and triples otherwise."""

    def forward(self, x):
        return 2 * x if compat.is_exporting() else 3 * x


def test_compiled_code_is_not_exported():
    """`torch.compiler.is_exporting()` is True there: sizes are known and functions fused."""
    x, module = torch.ones(2), Doubled()
    compiled = torch.compile(module, backend='eager', fullgraph=True)
    assert module(x)[0] == compiled(x)[0] == 3
    assert torch.jit.trace(module, (x,), check_trace=False)(x)[0] == 2


@pytest.mark.skipif(not hasattr(torch.compiler, 'is_exporting'), reason='torch before 2.7')
@pytest.mark.parametrize('strict', [True, False])
def test_exported_code_is_recognized(strict):
    exported = torch.export.export(Doubled(), (torch.ones(2),), strict=strict)
    assert exported.module()(torch.ones(2))[0] == 2
