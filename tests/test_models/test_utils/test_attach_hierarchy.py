import threading
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import BaseDataElement
from torch import nn

from hyper_mm.models.necks.hi_mapper import HiMapper
from hyper_mm.models.utils.aux_losses import (
    AuxLossMixin,
    FoundHierarchy,
    attach_hierarchy,
    collect_hierarchies,
)

SMALL = dict(in_channels=8, num_leaves=4, num_levels=2, width=8, num_heads=2, hyp_dim=4)


class Stock(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.neck = HiMapper(**SMALL, **options)

    def predict(self, inputs, samples):
        self.neck((nn.functional.avg_pool2d(inputs, 4).repeat(1, 3, 1, 1)[:, :8],))
        return samples


class Model(AuxLossMixin, Stock):
    pass


def keeper(count, size=None):
    shares = (torch.rand(2, 4, count), torch.rand(2, 2, count))
    hierarchy = SimpleNamespace(assignment=shares)
    features = torch.rand(2, count, 8)
    return FoundHierarchy(hierarchy, features, size)


@pytest.fixture
def samples():
    return [BaseDataElement(), BaseDataElement()]


def test_predictions_have_the_hierarchy(samples):
    model = Model(keep_hierarchy=True).eval()
    inputs = torch.randn(2, 3, 16, 24)
    found = model.predict(inputs, samples)[1].hierarchy
    assert found.features.shape == (8, 4, 6)
    assert found.assignment_1.shape == (4, 4, 6) and found.assignment_2.shape == (2, 4, 6)
    torch.testing.assert_close(found.assignment_2.sum(0), torch.ones(4, 6))
    assert found.input_shape == (16, 24)
    with collect_hierarchies() as again:
        Stock.predict(model, inputs, samples)
    assert len(again) == 1 and again[0].size == (4, 6)
    torch.testing.assert_close(found.assignment_1.flatten(1), again[0].hierarchy.assignment[0][1])
    assert not found.features.requires_grad


def test_nothing_is_attached_unless_asked_for(samples):
    assert 'hierarchy' not in Model().eval().predict(torch.randn(2, 3, 16, 24), samples)[0]


def test_sliding_windows_are_refused(samples):
    model = Model(keep_hierarchy=True).eval()
    model.test_cfg = dict(mode='slide')
    with pytest.raises(ValueError, match='slide'):
        model.predict(torch.randn(2, 3, 16, 16), samples)


def test_two_hierarchies_are_refused(samples):
    model = Model(keep_hierarchy=True).eval()
    model.other = HiMapper(**SMALL, keep_hierarchy=True)
    with pytest.raises(ValueError, match="'neck', 'other'"):
        model.predict(torch.randn(2, 3, 16, 16), samples)


def test_a_grid_of_the_images_proportions(samples):
    attach_hierarchy(keeper(24), (64, 96), samples)
    assert samples[0].hierarchy.shape == (4, 6)
    attach_hierarchy(keeper(24, (3, 8)), (64, 96), samples)
    assert samples[0].hierarchy.shape == (3, 8)


def test_no_grid_and_no_match(samples):
    with pytest.raises(ValueError, match='23 positions'):
        attach_hierarchy(keeper(23), (64, 64), samples)
    with pytest.raises(ValueError, match='2 hierarchies for 1'):
        attach_hierarchy(keeper(24), (64, 96), samples[:1])


def test_images_may_be_given_by_name(samples):
    model = Model(keep_hierarchy=True).eval()
    found = model.predict(inputs=torch.randn(2, 3, 16, 24), samples=samples)
    assert found[0].hierarchy.input_shape == (16, 24)


def test_a_part_that_does_not_run_once(samples):
    model = Model(keep_hierarchy=True).eval()
    model.neck.forward = lambda inputs: inputs
    with pytest.raises(ValueError, match='neck must run once in predict.., got 0 passes'):
        model.predict(torch.randn(2, 3, 16, 16), samples)


def test_nothing_is_kept_after_a_prediction(samples):
    model = Model(keep_hierarchy=True).eval()
    before = set(vars(model.neck))
    model.predict(torch.randn(2, 3, 16, 24), samples)
    assert set(vars(model.neck)) == before


def test_threads_that_share_a_model():
    """An inference server: each image gets its own hierarchy."""
    model = Model(keep_hierarchy=True).eval()
    images = torch.randn(256, 1, 3, 16, 24)
    found = {}

    def work(index):
        for i in range(index, 256, 6):
            with torch.no_grad():
                found[i] = model.predict(images[i], [BaseDataElement()])[0].hierarchy

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with torch.no_grad():
        for i in range(256):
            alone = model.predict(images[i], [BaseDataElement()])[0].hierarchy
            assert torch.equal(found[i].assignment_1, alone.assignment_1), i
            assert torch.equal(found[i].features, alone.features), i
