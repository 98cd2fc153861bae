"""Names that are almost right: what the errors say of them."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.registry import HOOKS, MODELS  # noqa: E402

from hyper_mm import registry  # noqa: E402
from hyper_mm.near_misses import arguments_of, suggestion  # noqa: E402


def message_of(error):
    return str(error.value)


@pytest.mark.parametrize('build', [MODELS.build, registry.MODELS.build])
def test_argument_of_a_component(build):
    with pytest.raises(TypeError) as error:
        build(dict(type='hyper_mm.HiMapper', in_channels=8, num_leafs=8))
    message = message_of(error)
    assert "hyper_mm.HiMapper has no argument 'num_leafs', did you mean 'num_leaves'" in message
    # of the neck, of its base, and of the module behind them
    for name in ('fusion', 'memory_grad', 'num_leaves', 'curvature'):
        assert name in message.split('It takes ')[1]


def test_argument_of_a_subclass_and_of_a_plain_call():
    from hyper_mm.models import HiMapperTree

    with pytest.raises(TypeError, match="hyper_mm.HiMapperTree has no argument 'num_level', did"):
        HiMapperTree(in_channels=8, num_level=2)


def test_argument_of_a_nested_config():
    with pytest.raises(TypeError) as error:
        MODELS.build(dict(type='hyper_mm.HiMapper', in_channels=8, curvature=dict(learnabel=False)))
    found = "curvature of hyper_mm.HiMapper has no argument 'learnabel', did you mean 'learnable'"
    assert found in message_of(error)


def test_argument_of_a_nested_config_with_renamed_arguments():
    cfg = dict(type='hyper_mm.LatHAdapterHead', dim=8, num_classes=4, hierarchy=dict(neigbors=3))
    with pytest.raises(TypeError, match=r"hierarchy of .*'neigbors'.*'neighbors'"):
        MODELS.build(cfg)


def test_argument_of_a_hook():
    with pytest.raises(TypeError, match="no argument 'intervall', did you mean 'interval'"):
        HOOKS.build(dict(type='hyper_mm.HierarchyVisualizationHook', intervall=3))


def test_other_errors_stay_as_they_are():
    with pytest.raises(ValueError, match='fusion must be one of'):
        MODELS.build(dict(type='hyper_mm.HiMapper', in_channels=8, fusion='tokens'))
    with pytest.raises(TypeError, match='missing 1 required positional argument'):
        MODELS.build(dict(type='hyper_mm.HiMapper'))


def test_signatures_stay_readable():
    names = arguments_of(registry.MODELS.get('HiMapperPooling'))
    assert {'in_channels', 'num_prefix_tokens', 'loss_warmup'} <= names


@pytest.mark.parametrize('name', sorted(registry.COMPONENTS['model']))
def test_every_component_still_has_its_docstring_and_arguments(name):
    module, *libraries = registry.COMPONENTS['model'][name]
    for library in libraries:
        pytest.importorskip(library)
    kind = registry.load_component(name, module, *libraries)
    assert kind.__doc__
    if issubclass(kind, torch.nn.Module):
        assert arguments_of(kind) or kind.__init__.__code__.co_argcount == 1


def test_suggestions():
    allowed = ('HiMapper', 'HiMapperTree', 'LorentzViT')
    assert suggestion('hiMaper', allowed).startswith(", did you mean 'HiMapper'")
    assert suggestion('Lorentz', ['optim_wrapper']) == ''
