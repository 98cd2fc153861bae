"""Costs by formula beside measurements, and what follows from them."""

from __future__ import annotations

import pytest

from tests.helpers.tools import load_tool

model = load_tool('analysis_tools/cost_model.py')
cases, formulas = (load_tool(f'analysis_tools/cost_{name}.py') for name in ('cases', 'formulas'))
counted_macs = cases.counted_macs


def test_every_method_is_there_at_three_sizes():
    names = [case.name.split(',')[0] for case in model.CASES]
    assert {names.count(name) for name in names} == {3} and len(names) == 36


def few(sizes):
    """The first of three sizes; the others are slow."""
    return [pytest.param(x, marks=pytest.mark.slow if i % 3 else ()) for i, x in enumerate(sizes)]


META = [case for case in model.CASES if 'U-Net' in case.name]
OTHERS = [case for case in model.CASES if case not in META]


@pytest.mark.parametrize('case', OTHERS + few(META), ids=lambda case: case.name)
def test_formulas_are_what_is_measured(case):
    for library in case.needs:
        pytest.importorskip(library)
    found = case.measure()
    assert found[:3] == case.formula[:3]  # parameters and multiply-accumulates
    for name in ('activations', 'shared_activations'):
        formula, value = getattr(case.formula, name), getattr(found, name)
        whole = found.activations + found.shared_activations
        assert abs(formula - value) <= 0.15 * value + 0.02 * whole, (name, formula, value)


@pytest.mark.parametrize('sizes', few(cases.EPISODES), ids=str)
def test_a_whole_step_of_an_episode(sizes):
    pytest.importorskip('mmseg')
    _, losses_of = cases.episode_step(*sizes)

    def step():
        losses = losses_of(1)
        sum(value for name, value in losses.items() if 'loss' in name).backward()

    whole = cases.episode_formula(*sizes).step_macs
    assert counted_macs(step, gradients=True) == whole


def test_windows_cover_a_side():
    assert formulas.cuts(24, 12, False) == [12, 12]
    assert formulas.cuts(24, 12, True) == [6, 12, 6]
    assert formulas.cuts(9, 12, True) == [9]


def test_language_models():
    pytest.importorskip('mmengine')
    import torch
    from mmengine.registry import MODELS

    for dim, depth, heads, hidden, length, words in (
        (29, 2, 6, 64, 16, 97),
        (62, 3, 3, 128, 9, 50),
    ):
        decoder = dict(
            type='hyper_mm.HelmDecoder',
            vocab_size=words,
            embed_dims=dim,
            depth=depth,
            attention=dict(type='LorentzAttention', num_heads=heads),
            ffn=dict(type='LorentzSwiGLU', hidden_dims=hidden),
        )
        helm = MODELS.build(dict(type='hyper_mm.HelmForCausalLM', decoder=decoder))
        cost = model.helm(dim, depth, heads, hidden, length, words)
        assert sum(p.numel() for p in helm.parameters()) == cost.parameters
        ids = torch.randint(2, words, (1, length))
        assert counted_macs(lambda h=helm, i=ids: h(i, mode='loss')) == cost.macs


def test_communication():
    assert model.all_reduce(100, 1) == model.fully_sharded(100, 1) == 0
    assert model.all_reduce(100, 2) == 400  # each sends half twice, of 4 bytes
    assert model.fully_sharded(100, 4) == 900


def test_time_of_a_run():
    run = model.Run('a', 10.0, 10.0, 2.0, 3600 * 1000, 8, 1.5)
    assert model.hours(run, 4, 2.0) == pytest.approx(1000 * 2e9 * 6 / 12e12)
    frozen = run._replace(trained=1.0)
    assert model.hours(frozen, 4, 2.0) == pytest.approx(1000 * 2e9 * 4 / 12e12)


def test_report(capsys):
    model.main(['--gpus', '8', '--price', '0'])
    text = capsys.readouterr().out
    assert text.count('\n| Hi-Mapper, d') == 3 and 'HELM-D 115M' in text
    assert 'a batch is 4' in text and '8 GPUs' in text and '1 GPU:' not in text
    with pytest.raises(SystemExit):
        model.main(['--gpus', '0'])
