"""Frozen targets: computed once for texts and weights, in the folder that is asked for."""

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

pytest.importorskip('open_clip')

from mmengine.logging import MMLogger  # noqa: E402
from mmengine.runner import BaseLoop  # noqa: E402

from hyper_mm.engine.hooks.frozen_targets_hook import FrozenTargetsHook  # noqa: E402
from hyper_mm.models.vision_language.radial_clip import RadialCLIP  # noqa: E402
from tests.test_models.test_vision_language.test_radial_clip import CHAIN, CLIP, OTHER  # noqa: E402


def run(model, work_dir, **options):
    dataset = Mock(__len__=lambda _: 2)
    dataset.get_data_info = lambda i: dict(texts=[f'{t} {i}' for t in CHAIN], negatives=OTHER)
    runner = SimpleNamespace(
        _train_loop=Mock(spec=BaseLoop),
        model=model,
        train_dataloader=SimpleNamespace(dataset=dataset),
        work_dir=str(work_dir),
        logger=MMLogger.get_current_instance(),
    )
    FrozenTargetsHook(**options).before_run(runner)
    return model.frozen


def test_folder(tmp_path):
    torch.manual_seed(0)
    model = RadialCLIP(CLIP)
    own = run(model, tmp_path / 'run')
    (file,) = (tmp_path / 'run' / 'frozen_targets').glob('*.npy')
    for name in ('a', 'b'):  # two runs share the folder
        found = run(model, tmp_path / name, cache_dir=str(tmp_path / 'shared'))
        torch.testing.assert_close(found([OTHER[0]]), own([OTHER[0]]))
        assert not (tmp_path / name).exists()
    (shared,) = (tmp_path / 'shared').glob('*.npy')
    assert shared.name == file.name and np.load(shared).shape == (2 * 4 + 4, 16)
    with torch.no_grad():
        model.clip.text_projection.mul_(1.5)
    run(model, tmp_path / 'c', cache_dir=str(tmp_path / 'shared'))
    assert len(list((tmp_path / 'shared').glob('*.npy'))) == 2  # other weights, other targets
    tower = {**CLIP['model'], 'quick_gelu': False}
    other = RadialCLIP(dict(CLIP, model=tower))
    other.load_state_dict(model.state_dict())  # the same weights of another activation
    run(other, tmp_path / 'd', cache_dir=str(tmp_path / 'shared'))
    assert len(list((tmp_path / 'shared').glob('*.npy'))) == 3
