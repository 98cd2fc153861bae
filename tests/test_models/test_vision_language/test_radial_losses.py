"""The losses of radial embeddings by config."""

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm import layers  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402


@pytest.mark.parametrize('name', ['RadialEmbeddingLoss', 'EntailmentConeLoss'])
@pytest.mark.parametrize('geometry', ['euclidean', 'lorentz'])
def test_config_and_layer_compute_the_same(name, geometry):
    options = dict(scale=0.5, **(dict(curvature=dict(init=0.4)) if geometry == 'lorentz' else {}))
    loss = MODELS.build(dict(type=f'hyper_mm.{name}', geometry=geometry, **options))
    plain = getattr(layers, name)(geometry=geometry, **options)
    assert isinstance(loss, type(plain))
    assert loss.state_dict().keys() == plain.state_dict().keys()
    batch = torch.randn(2, 4, 5, 8), torch.randn(8), torch.randn(2, 4, 5, 8)
    found, expected = loss(*batch), plain(*batch)
    assert found.keys() == expected.keys() and found
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key])
