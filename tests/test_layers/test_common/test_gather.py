import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from hyper_mm.layers import HierarchyMapper
from hyper_mm.layers.common.gather import gather_batch

SIZES = (2, 3)


def mapper() -> HierarchyMapper:
    torch.manual_seed(0)
    return HierarchyMapper(
        8,
        width=8,
        num_heads=2,
        recipe='recommended',
        tree=dict(num_leaves=4, num_levels=2),
        loss=dict(balance=0.0),
    ).double()


def levels() -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    return tuple(torch.randn(sum(SIZES), n, 8, generator=draw, dtype=torch.float64) for n in (4, 2))


def contrastive(own: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return mapper().losses(own)[0]['cont']


def work(rank: int, store: str, results) -> None:
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    part = slice(0, SIZES[0]) if rank == 0 else slice(SIZES[0], None)
    own = tuple(x[part].clone().requires_grad_() for x in levels())
    loss = contrastive(own)
    loss.backward()
    x = torch.full((SIZES[rank], 2), float(rank))
    empty, _ = gather_batch(x if rank else x[:0])
    gathered, first = gather_batch(x)
    results[rank] = loss.item(), own[0].grad.tolist(), gathered.tolist(), first, len(empty)
    dist.destroy_process_group()


def test_alone_it_is_the_batch_itself():
    x = torch.randn(3, 2, requires_grad=True)
    found, first = gather_batch(x)
    assert found is x and first == 0


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    found = mp.get_context('spawn').Manager().dict()
    mp.spawn(work, (str(tmp_path_factory.mktemp('ranks') / 'store'), found), nprocs=2)
    return dict(found)


def test_batches_of_different_lengths(results):
    for rank, (_, _, gathered, first, filled) in results.items():
        assert gathered == [[0.0, 0.0]] * SIZES[0] + [[1.0, 1.0]] * SIZES[1]
        assert first == rank * SIZES[0]
        assert filled == SIZES[1]


def test_negatives_of_two_ranks_are_those_of_one_batch(results):
    """The mean over the images, weighted by their number, is the loss of the whole batch."""
    whole = contrastive(levels()).item()
    mean = sum(n * results[rank][0] for rank, n in enumerate(SIZES)) / sum(SIZES)
    assert mean == pytest.approx(whole, rel=1e-12)


def test_gradient_is_that_of_a_batch_whose_other_images_are_fixed(results):
    for rank, (_, gradient, *_) in results.items():
        part = slice(0, SIZES[0]) if rank == 0 else slice(SIZES[0], None)
        given = levels()
        own = given[0][part].clone().requires_grad_()
        leaves = torch.cat(
            [own, given[0][part.stop :]] if rank == 0 else [given[0][: part.start], own]
        )
        module = mapper()
        u, _ = module.lift(torch.cat([leaves, given[1]], 1))
        across = module._across_images(module.lift, u)
        distances = module.lift.pairwise_dist(u, u)
        # rows of this rank alone: their images are the anchors
        loss = module.contrast(
            distances[part], module.tree.nodes, (across[0][part], across[1][part])
        )
        (expected,) = torch.autograd.grad(0.1 * loss, own)
        torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), expected)
