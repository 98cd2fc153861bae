import pytest
import torch

from hyper_mm.tensor_files import load_tensors, save_tensors


@pytest.mark.parametrize('name', ['a.pth', 'a.pt', 'a.safetensors'])
def test_there_and_back(name, tmp_path):
    if name.endswith('safetensors'):
        pytest.importorskip('safetensors')
    tensors = dict(a=torch.randn(3, 4).T, b=torch.arange(5, dtype=torch.uint8))
    tensors['c'] = torch.ones(2, requires_grad=True)
    save_tensors(tensors, tmp_path / name)
    found = load_tensors(str(tmp_path / name))
    assert list(sorted(found)) == list('abc')
    assert all(torch.equal(found[key], tensors[key]) for key in found)
    assert not found['c'].requires_grad


def test_kinds_of_files_differ(tmp_path):
    pytest.importorskip('safetensors')
    save_tensors(dict(a=torch.ones(1)), tmp_path / 'a.safetensors')
    (tmp_path / 'a.safetensors').rename(tmp_path / 'a.pth')
    with pytest.raises(Exception, match='weights_only|invalid|Invalid|corrupt'):
        load_tensors(tmp_path / 'a.pth')
