"""Local files that mmengine writes appear whole."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.fileio import get_file_backend  # noqa: E402
from mmengine.runner.checkpoint import save_checkpoint  # noqa: E402

import hyper_mm.registry  # noqa: E402, F401
from hyper_mm.engine.file_backend import AtomicLocalBackend  # noqa: E402


def full(descriptor):
    raise OSError(28, 'No space left on device')


@pytest.mark.parametrize('backend_args', [None, dict(backend='local')])
def test_a_checkpoint_is_written_in_one_step(tmp_path, monkeypatch, backend_args):
    file = tmp_path / 'new' / 'a.pth'
    save_checkpoint(dict(a=torch.zeros(2)), str(file), backend_args=backend_args)
    before = file.read_bytes()
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space'):
        save_checkpoint(dict(a=torch.zeros(20_000)), str(file), backend_args=backend_args)
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]
    assert torch.load(file)['a'].shape == (2,)


def test_text_and_places(tmp_path):
    backend = get_file_backend(str(tmp_path))
    assert isinstance(backend, AtomicLocalBackend)
    backend.put_text('ä', tmp_path / 'a.txt', encoding='latin-1')
    assert (tmp_path / 'a.txt').read_bytes() == b'\xe4'
    backend.put(memoryview(b'abc'), str(tmp_path / 'b'))
    assert backend.get(tmp_path / 'b') == b'abc'
    assert not isinstance(get_file_backend('http://host/a.pth'), AtomicLocalBackend)
