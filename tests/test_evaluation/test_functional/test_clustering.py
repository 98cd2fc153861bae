import pytest
import torch

from hyper_mm.evaluation.functional.clustering import kmeans, squared_distances, ward_tree


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_kmeans_finds_separated_clusters():
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = (centers[:, None] + 0.1 * torch.randn(4, 20, 2)).flatten(0, 1)
    found = kmeans(points, 4, generator())
    owner = squared_distances(points, found).argmin(1).view(4, 20)
    assert (owner == owner[:, :1]).all()
    assert len(owner[:, 0].unique()) == 4


def test_kmeans_is_a_function_of_its_seed():
    points = torch.randn(50, 3)
    assert torch.equal(kmeans(points, 5, generator(1)), kmeans(points, 5, generator(1)))


def test_kmeans_of_equal_points():
    found = kmeans(torch.ones(6, 2), 3, generator())
    assert torch.equal(found, torch.ones(3, 2))


def test_kmeans_needs_as_many_points_as_clusters():
    with pytest.raises(ValueError, match='clusters=4'):
        kmeans(torch.randn(3, 2), 4, generator())


def test_ward_tree_joins_near_leaves_first():
    centers = torch.tensor([[0.0], [10.0], [1.0], [12.0]])
    tree = ward_tree(centers, torch.ones(4), (4, 3, 2, 1))
    assert len(tree[0].unique()) == 4
    assert tree[1, 0] == tree[1, 2] and tree[1, 1] != tree[1, 3]
    assert tree[2, 0] == tree[2, 2] and tree[2, 1] == tree[2, 3] != tree[2, 0]
    assert len(tree[3].unique()) == 1


def test_ward_tree_prefers_small_clusters():
    # the rise of the error is 9 / 2 for the first two, and 4 * 50 for the others
    centers = torch.tensor([[0.0], [3.0], [100.0], [102.0]])
    tree = ward_tree(centers, torch.tensor([1, 1, 100, 100]), (4, 3))
    assert tree[1, 0] == tree[1, 1] and tree[1, 2] != tree[1, 3]
