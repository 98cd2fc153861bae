"""Files written by version 0.1.0, before the package was divided by methods, still load.

`tests/data/components_0.1.0.pth` holds, for small instances of components, config, state dict, and
an input with its output.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg')

from mmengine.registry import MODELS, init_default_scope  # noqa: E402

from hyper_mm.checkpoints import load_from_local  # noqa: E402

DATA = Path(__file__).parent / 'data'
COMPONENTS = load_from_local(str(DATA / 'components_0.1.0.pth'))


@pytest.mark.parametrize('name', list(COMPONENTS))
def test_component_of_an_old_checkpoint(name):
    init_default_scope('mmseg')
    saved = COMPONENTS[name]
    module = MODELS.build(saved['config']).eval()
    module.load_state_dict(saved['state_dict'])  # strict: no key is missing, none is left over
    if 'input' not in saved:
        return
    x = saved['input']
    found = {
        'HelmForCausalLM': lambda: module.decoder(x),
        'LorentzViT': lambda: module(x),
    }.get(name, lambda: module((x,)))()
    while isinstance(found, (tuple, list)):
        found = found[0]
    # two orders of summation in float32 may differ by eps times the depth of the sums
    scale = saved['output'].abs().max()
    assert (found - saved['output']).abs().max() <= 200 * torch.finfo(torch.float32).eps * scale
