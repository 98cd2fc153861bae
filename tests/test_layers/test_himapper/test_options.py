import warnings

import pytest
import torch

from hyper_mm.layers import HierarchyMapper
from hyper_mm.layers.himapper.options import GROUPS, RECIPES, grouped_options, level_radii

FLAT = dict(
    num_leaves=8,
    num_levels=3,
    hyp_dim=6,
    contrastive=dict(tau=0.5, level_weights=(1.0, 0.5)),
    contrastive_weight=0.2,
    kl_weight=0.3,
    kl_reduction='sum',
    structure=dict(balance=1.0),
    max_radius=3.0,
    competition=True,
)
GROUPED = dict(
    competition=True,
    tree=dict(num_leaves=8, num_levels=3),
    lift=dict(hyp_dim=6, max_radius=3.0),
    loss=dict(
        contrastive=0.2,
        kl=0.3,
        kl_reduction='sum',
        tau=0.5,
        level_weights=(1.0, 0.5),
        balance=1.0,
    ),
)


def test_flat_names_go_to_their_groups_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r'num_leaves \(tree.num_leaves\)'):
        assert grouped_options(FLAT) == GROUPED
    assert FLAT['contrastive'] == dict(tau=0.5, level_weights=(1.0, 0.5))


def test_grouped_names_pass_without_one():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert grouped_options(GROUPED) == GROUPED


def test_both_are_the_same_module():
    torch.manual_seed(0)
    with pytest.warns(DeprecationWarning):
        old = HierarchyMapper(12, width=8, num_heads=2, **FLAT)
    torch.manual_seed(0)
    new = HierarchyMapper(12, width=8, num_heads=2, **GROUPED)
    assert old.state_dict().keys() == new.state_dict().keys()
    levels = tuple(torch.randn(2, n, 12) for n in (8, 4, 2))
    share = tuple(torch.rand(2, n, 5).softmax(1) for n in (8, 4, 2))
    for a, b in zip(old.losses(levels, share)[0].items(), new.losses(levels, share)[0].items()):
        assert a[0] == b[0]
        torch.testing.assert_close(a[1], b[1])


@pytest.mark.parametrize(
    'options, error, message',
    [
        (dict(num_leaves=8, tree=dict(num_leaves=4)), TypeError, 'num_leaves and tree.num_leaves'),
        (dict(kl_weight=1.0, loss=dict(kl=1.0)), TypeError, 'kl_weight and loss.kl'),
        (dict(tree=4), TypeError, 'tree must be a dict of options, got 4'),
        (dict(loss=dict(weight=1.0)), ValueError, r"loss must have options among .*'weight'"),
        (dict(leaves=8), TypeError, "unexpected keyword argument 'leaves'"),
        (dict(recipe='best'), ValueError, "recipe must be one of .*, got 'best'"),
        (dict(recipe='recommended', compat='official'), ValueError, "needs recipe='paper'"),
        (dict(recipe='recommended', encode_samples=True), ValueError, 'encode_samples needs'),
        (dict(tree=dict(bottom_up=True)), ValueError, 'bottom_up=True needs competition=True'),
        (dict(lift=dict(radii='deep')), ValueError, "lift.radii must be 'free', 'level' or 4"),
        (dict(lift=dict(radii=[1.0, 2.0])), ValueError, 'one a level, got'),
        (dict(lift=dict(radii=[3.0, 2.0, 1.0, 0.0])), ValueError, 'radii must be positive'),
        (dict(tree=dict(init='star')), ValueError, "init must be one of .*, got 'star'"),
        (dict(tree=dict(sigma=0.0)), ValueError, 'sigma must be positive'),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message), warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        HierarchyMapper(12, **options)


def test_recipes_set_options_that_exist():
    for recipe in RECIPES.values():
        assert all(set(recipe[name]) <= set(GROUPS[name]) for name in GROUPS)
        HierarchyMapper(12, **recipe)


def test_an_option_beside_a_recipe_changes_that_alone():
    module = HierarchyMapper(12, recipe='recommended', loss=dict(across_images=False))
    assert not module.contrast.across_images
    assert module.decomposer.block.bottom_up and module.lift.radii is not None


def test_radii_of_levels():
    assert level_radii('free', 3) is None
    assert level_radii('level', 3) == (3.0, 2.0, 1.0)
    assert level_radii([2, 1], 2) == (2.0, 1.0)
