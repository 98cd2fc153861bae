"""Whole runs of the open-vocabulary segmentor: training, testing, pictures, cost."""

import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from mmengine.analysis import get_model_complexity_info  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.open_vocab import HYPERCLIP, config  # noqa: E402
from tests.helpers.open_vocab_runs import run_config, write_images  # noqa: E402

pytestmark = pytest.mark.mmseg


@pytest.fixture
def data(tmp_path):
    return write_images(tmp_path)


def test_training_and_testing(data):
    cfg = run_config(data)
    runner = Runner.from_cfg(cfg)
    before = {n: p.clone() for n, p in runner.model.named_parameters()}
    runner.train()
    changed = {
        n for n, p in runner.model.named_parameters() if not torch.equal(p.cpu(), before[n].cpu())
    }
    assert changed and all(runner.model.get_parameter(n).requires_grad for n in changed)
    lrs = {g['lr'] for g in runner.optim_wrapper.optimizer.param_groups}
    assert lrs == {1e-2, 7.5e-4}
    scores = runner.message_hub.get_scalar('val/mIoU').current()
    assert 0 <= scores <= 100

    cfg.load_from = str(data / 'work' / 'iter_2.pth')
    cfg.visualizer.name += '_test'
    found = Runner.from_cfg(cfg).test()
    assert found['mIoU'] == pytest.approx(scores, abs=1e-2)

    cfg.model.vocabulary = ['zebra', 'giraffe']
    cfg.visualizer.name += '_names'
    runner = Runner.from_cfg(cfg)
    drawn, draw = [], runner.visualizer.add_datasample

    def record(*args, **kwargs):
        drawn.append(runner.visualizer.dataset_meta['classes'])
        draw(*args, **kwargs)

    runner.visualizer.add_datasample = record
    runner.test()
    assert drawn == [['zebra', 'giraffe']] * 4
    pictures = [p.name for p in (data / 'work').rglob('*.png') if 'vis_image' in p.parts]
    assert len(pictures) >= 4
    assert {'hyperclip_radius_1.png', 'hyperclip_radius_2.png'} <= {*pictures}


def test_cost_is_counted():
    """What mmseg's get_flops.py does (that script itself fails on mmengine 0.10 with any model)."""
    model = MODELS.build(config(adapter=HYPERCLIP)).eval()
    found = get_model_complexity_info(
        model, inputs=torch.randn(1, 3, 32, 32), show_table=False, show_arch=False
    )
    assert found['flops'] > 1e6
    assert found['params'] == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.01)
