"""What the Hi-Mapper necks share: where gradients stop, and the warm-up of the losses."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper

from hyper_mm.models import HiMapper
from hyper_mm.models.utils.aux_losses import collect_losses
from tests.helpers.losses import run

SMALL = dict(num_leaves=8, num_levels=3, width=8, num_heads=2, dropout=0.0)


def make(**options):
    torch.manual_seed(0)
    return HiMapper(in_channels=12, **{**SMALL, 'probabilistic': False, **options})


def gradients(neck, with_task=True, with_losses=True):
    x = torch.linspace(-1, 1, 2 * 12 * 9).sin().reshape(2, 12, 3, 3).requires_grad_()
    (out,), losses = run(neck, (x,))
    total = out.square().sum() if with_task else 0 * out.sum()
    if with_losses:
        total = total + sum(v for k, v in losses.items() if 'loss' in k)
    neck.zero_grad()
    total.backward()
    return x.grad, neck.mapper.decomposer.query_proj[1].weight.grad


def test_loss_grad_scales_the_gradient_of_the_losses_alone():
    full, inside = gradients(make(), with_task=False)
    for factor in (0.0, 0.25):
        part, kept = gradients(make(loss_grad=factor), with_task=False)
        torch.testing.assert_close(part, factor * full, rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(kept, inside)
    plain, _ = gradients(make(gate_init=1.0), with_losses=False)
    kept, _ = gradients(make(gate_init=1.0, loss_grad=0.0))
    torch.testing.assert_close(kept, plain)


def test_loss_grad_keeps_values_of_sampled_losses():
    full, cut = (make(probabilistic=True, loss_grad=g) for g in (1.0, 0.0))
    for neck in (full, cut):
        torch.manual_seed(1)
        gradients(neck)
    x = torch.randn(2, 12, 3, 3)
    found = []
    for neck in (full, cut):
        torch.manual_seed(2)
        found.append(run(neck, (x,))[1]['loss_hier_cont'])
    torch.testing.assert_close(*found)


def test_loss_warmup_rises_to_the_full_weight_and_resumes():
    plain, warm = make(), make(loss_warmup=4)
    x = torch.randn(2, 12, 3, 3)
    full = run(plain, (x,))[1]['loss_hier_cont']
    rates = []
    for step in range(6):
        if step == 2:
            state, warm = warm.state_dict(), make(loss_warmup=4)
            warm.load_state_dict(state)
        rates.append((run(warm, (x,))[1]['loss_hier_cont'] / full).item())
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1], abs=1e-5)


@pytest.fixture
def hub():
    hub = MessageHub.get_current_instance()
    hub.update_info('loop_stage', 'train')
    yield hub
    hub.pop_info('loop_stage')
    hub.pop_info('iter')


@pytest.mark.parametrize('accumulated', [1, 4])
def test_loss_warmup_counts_the_steps_of_the_optimizer(hub, accumulated):
    """Not the passes: a neck may run several times in one; nor batches that are accumulated."""
    warm, x = make(loss_warmup=4), torch.randn(2, 12, 3, 3)
    plain = make()
    wrapper = OptimWrapper(torch.optim.AdamW(warm.parameters()), accumulative_counts=accumulated)
    wrapper.initialize_count_status(warm, 0, 6 * accumulated)
    rates = []
    for iteration in range(6 * accumulated):
        hub.update_info('iter', iteration)
        if iteration == 2 * accumulated:  # a step has just been made
            state = warm.state_dict()
            warm = make(loss_warmup=4)
            warm.load_state_dict(state)
            wrapper = OptimWrapper(
                torch.optim.AdamW(warm.parameters()), accumulative_counts=accumulated
            )
            wrapper.initialize_count_status(warm, iteration, 6 * accumulated)
        with collect_losses() as scope:
            for _ in range(3):
                warm((x,))
        loss = scope.of(warm)['loss_hier_cont']
        plain.load_state_dict(warm.state_dict(), strict=False)
        full = run(plain, (x,))[1]['loss_hier_cont']
        rates.append((loss / (3 * full)).item())
        assert warm.loss_steps == iteration // accumulated + 1
        wrapper.update_params(loss + 0 * warm((x,))[0].sum())
    wanted = [min(i // accumulated / 4, 1) for i in range(6 * accumulated)]
    assert rates == pytest.approx(wanted, abs=1e-4)


def test_loss_warmup_takes_the_iteration_where_nothing_else_is_known(hub):
    plain, x = make(), torch.randn(2, 12, 3, 3)
    full = run(plain, (x,))[1]['loss_hier_cont']
    for frozen in (False, True):
        warm = make(loss_warmup=4)
        warm.requires_grad_(not frozen)
        hub.update_info('iter', 2)
        found = run(warm, (x.requires_grad_(),))[1]['loss_hier_cont']
        assert (found / full).item() == pytest.approx(0.5, abs=1e-5)
    state, tuned = warm.state_dict(), make(loss_warmup=4)
    tuned.load_state_dict(state)
    hub.update_info('iter', 0)  # another run begins with the weights of this one
    assert run(tuned, (x,))[1]['loss_hier_cont'] == 0


def test_evaluation_does_not_warm_up():
    warm = make(loss_warmup=4).eval()
    run(warm, (torch.randn(2, 12, 3, 3),))
    assert warm.loss_steps == 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(loss_grad=1.5), r'loss_grad must be in \[0, 1\], got 1.5'),
        (dict(memory_grad=-1), r'memory_grad must be in \[0, 1\], got -1'),
        (dict(loss_warmup=-1), 'loss_warmup must not be negative, got -1'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_assignment_fusion_through_the_neck():
    neck = make(fusion='assignment', gate_init=1.0)
    grad, inside = gradients(neck, with_losses=False)
    assert (grad != 0).any() and (inside != 0).any()
    neck.eval()
    assert neck((torch.randn(1, 12, 5, 2),))[0].shape == (1, 12, 5, 2)
