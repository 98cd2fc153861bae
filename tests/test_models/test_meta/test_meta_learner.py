"""Meta-learning wrapper."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hyper_mm.models.meta.meta_learner import DivergedError
from hyper_mm.registry import MODELS

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max
from ...helpers.meta import GoldenNet, Net, batch, episodes

DISTRIBUTED = ('maml', 'metasgd', 'reptile')
ALGORITHMS = ['maml', 'fomaml', 'anil', 'metasgd', 'reptile']


def build(model, **kwargs):
    return MODELS.build(dict(type='hyper_mm.MetaLearner', model=model, **kwargs))


@pytest.mark.parametrize('algorithm', [*ALGORITHMS, 'anil_fo'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('file', golden_files('meta*.npz'))
def test_golden_wrapper(file, algorithm, dtype):
    g = Golden(file, dtype)
    model = GoldenNet(g.state_dict('theta.'))
    first_order = True if algorithm == 'anil_fo' else None
    learner = build(
        model,
        algorithm=algorithm.split('_')[0],
        inner_lr=g['inner_lr'].item(),
        inner_steps=int(g['inner_steps']),
        first_order=first_order,
    )
    if algorithm == 'metasgd':
        names = {id(p): n for n, p in model.named().items()}
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, rate in zip(learner._rate_names, learner.rates):
                rate.copy_(g['alpha.' + names[id(parameters[name])]])
    tasks = zip(g['xs'], g['ys'], g['xq'], g['yq'])
    data = [dict(support=batch(a, b), query=batch(c, d)) for a, b, c, d in tasks]
    losses = learner(data, mode='loss')
    total, _ = learner.parse_losses(losses)
    double = dtype == torch.float64
    before = g.exact('support_loss_before').mean()
    assert absolute(losses['meta/support'], before) < (1e-9 if double else 3e-7)
    prefix = 'reptile.pseudo_grad.' if algorithm == 'reptile' else f'{algorithm}.grad.'
    if algorithm != 'reptile':
        expected = g.exact(f'{algorithm}.query_loss').mean()
        assert absolute(total, expected) < (1e-9 if double else 3e-7)
    total.backward()
    for name, parameter in model.named().items():
        error = of_max(parameter.grad, g.exact(prefix + name))
        assert error < (1e-9 if double else 6e-6), name
    if algorithm == 'metasgd':
        for name, rate in zip(learner._rate_names, learner.rates):
            expected = g.exact('metasgd.grad_alpha.' + names[id(parameters[name])])
            assert of_max(rate.grad, expected) < (1e-9 if double else 6e-6)


@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_a_step_changes_parameters_only_by_the_optimizer(algorithm):
    learner = build(Net(), algorithm=algorithm, inner_lr=0.1, inner_steps=2)
    before = copy.deepcopy(learner.state_dict())
    total, log = learner.parse_losses(learner(episodes(), mode='loss'))
    assert all(torch.equal(before[k], v) for k, v in learner.state_dict().items())
    total.backward()
    assert all(p.grad is not None for p in learner.parameters())
    assert log['loss'] == total


def test_reptile_moves_to_the_adapted_weights():
    learner, data = build(Net(), algorithm='reptile', inner_lr=0.1, inner_steps=3), episodes(1)
    optimizer = torch.optim.SGD(learner.parameters(), 1.0)
    reference = copy.deepcopy(learner.model)
    inner = torch.optim.SGD(reference.parameters(), 0.1)
    for _ in range(3):
        inner.zero_grad()
        reference(**data[0]['support'], mode='loss')['loss_seg'].backward()
        inner.step()
    learner.parse_losses(learner(data, mode='loss'))[0].backward()
    optimizer.step()
    for a, b in zip(learner.model.parameters(), reference.parameters()):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_running_statistics_are_committed(algorithm):
    learner, data = build(Net(norm=True), algorithm=algorithm, inner_steps=2), episodes(3)
    norm = learner.model.norm
    learner.parse_losses(learner(data, mode='loss'))[0].backward()
    assert (norm.running_mean != 0).any() and (norm.running_mean.isfinite()).all()
    assert norm.num_batches_tracked == (2 if algorithm == 'reptile' else 3)
    kept = copy.deepcopy(learner.state_dict())
    learner.commit_buffers = False
    learner(data, mode='loss')
    learner.eval()
    learner(data, mode='predict')
    assert not learner.model.training
    assert all(torch.equal(kept[k], v) for k, v in learner.state_dict().items())


def test_a_buffer_that_is_set_anew_is_kept_too():
    class Counting(Net):
        def __init__(self):
            super().__init__()
            self.register_buffer('calls', torch.zeros(()))

        def features(self, x):
            self.calls = self.calls + 1
            return super().features(x)

    learner = build(Counting(), inner_steps=2)
    learner(episodes(2), mode='loss')
    assert learner.model.calls == 3
    learner.eval()
    learner(episodes(1), mode='predict')
    assert learner.model.calls == 3


def test_prediction_adapts_without_gradients_outside():
    learner = build(Net(), inner_lr=0.5, inner_steps=1, test_steps=20).eval()
    data = episodes(2)
    for episode in data:
        episode['query'] = episode['support']
    plain = [learner(**e['query'], mode='predict') for e in data]
    with torch.no_grad():
        adapted = learner(data, mode='predict')
    assert len(adapted) == 6 and not adapted[0].requires_grad
    labels = [s.gt_sem_seg.data.float() for e in data for s in e['query']['data_samples']]
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    before = loss(torch.stack(sum(plain, [])), torch.stack(labels))
    assert loss(torch.stack(adapted), torch.stack(labels)) < before


def test_shared_modules_and_tied_weights_are_adapted_together():
    class Shared(Net):
        def __init__(self):
            super().__init__()
            self.second = torch.nn.ModuleDict(dict(conv=self.conv))  # a module by two names
            self.third = torch.nn.Conv2d(4, 4, 1)
            self.fourth = torch.nn.Conv2d(4, 4, 1)
            self.fourth.weight = self.third.weight  # a parameter in two modules

        def features(self, x):
            return self.fourth(torch.tanh(self.third(torch.tanh(self.second['conv'](x)))))

    learner, data = build(Shared(), algorithm='maml', inner_lr=0.5), episodes(1)
    before = {n: p for n, p in learner.named_parameters(remove_duplicate=False)}
    learner.parse_losses(learner(data, mode='loss'))[0].backward()
    after = dict(learner.named_parameters(remove_duplicate=False))
    assert before.keys() == after.keys() and all(after[n] is p for n, p in before.items())
    assert all(p.grad is not None for p in learner.parameters())
    reference = copy.deepcopy(learner.model)
    optimizer = torch.optim.SGD(reference.parameters(), 0.5)
    optimizer.zero_grad()
    reference(**data[0]['support'], mode='loss')['loss_seg'].backward()
    optimizer.step()
    expected = reference(**data[0]['query'], mode='predict')
    torch.testing.assert_close(learner(data, mode='predict'), expected)


def test_second_order_attention_has_second_derivatives():
    attention = pytest.importorskip('torch.nn.attention', reason='torch < 2.3')
    learner = build(Net(attention=True), algorithm='maml', inner_lr=0.1)
    data, grads = episodes(1), []
    for backend in (attention.SDPBackend.MATH, None):
        learner.zero_grad()
        if backend is None:
            loss = learner.parse_losses(learner(data, mode='loss'))[0]
        else:
            with attention.sdpa_kernel(backend):
                loss = learner.parse_losses(learner(data, mode='loss'))[0]
        loss.backward()
        grads.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize('algorithm', ['maml', 'fomaml'])
def test_autocast_leaves_the_inner_steps_in_float32(algorithm):
    learner, data = build(Net(), algorithm=algorithm, inner_lr=0.1), episodes(1)
    plain = learner(data, mode='loss')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = learner(data, mode='loss')
    assert torch.equal(plain['meta/support'], mixed['meta/support'])
    torch.testing.assert_close(plain['loss_meta'], mixed['loss_meta'], rtol=0.02, atol=0.02)
    learner.parse_losses(mixed)[0].backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


def test_frozen_parts_stay():
    model = Net()
    model.conv.requires_grad_(False)
    learner = build(model, algorithm='maml', inner_lr=0.1)
    learner.parse_losses(learner(episodes(1), mode='loss'))[0].backward()
    assert model.conv.weight.grad is None and model.decode_head.conv_seg.weight.grad is not None


@pytest.mark.parametrize(
    'options',
    [
        dict(algorithm='sgd'),
        dict(inner_lr=0),
        dict(inner_lr='0.1'),
        dict(inner_steps=0),
        dict(test_steps=1.5),
        dict(clip=-1),
        dict(adapt='no_such_part'),
        dict(adapt='head('),
        dict(first_order=True),
    ],
)
def test_bad_options(options):
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        build(Net(), **options)


def test_bad_input():
    learner, data = build(Net()), episodes(1)
    with pytest.raises(ValueError, match='EpisodeDataset'):
        learner(**data[0]['support'], mode='loss')
    with pytest.raises(ValueError, match='mode'):
        learner(data, mode='tensor')
    learner = build(Net(lambda logits, y: (logits.detach() * y).sum()))
    with pytest.raises(ValueError, match='no gradient'):
        learner(data, mode='loss')


def test_a_loss_that_is_not_finite_is_an_error_of_its_own():
    learner, data = build(Net(lambda logits, y: logits.square().sum() * torch.inf)), episodes(1)
    with pytest.raises(DivergedError, match='the loss of a step is inf'):
        learner.step([data[0]['support']], *learner.initial_state())


def _rank(rank, folder):
    from mmengine.model import MMDistributedDataParallel

    torch.set_num_threads(1)
    store = f'file://{folder}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    for algorithm in DISTRIBUTED:
        learner, data = _distributed(algorithm)
        wrapped = MMDistributedDataParallel(learner)
        losses = wrapped(inputs=data[rank : rank + 1], mode='loss')
        learner.parse_losses(losses)[0].backward()
        torch.save([p.grad for p in learner.parameters()], f'{folder}/{algorithm}{rank}.pth')
    torch.distributed.destroy_process_group()


def _distributed(algorithm):
    torch.manual_seed(0)
    return build(Net(), algorithm=algorithm, inner_lr=0.1, inner_steps=2), episodes(2)


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    for algorithm in DISTRIBUTED:
        learner, data = _distributed(algorithm)
        learner.parse_losses(learner(data, mode='loss'))[0].backward()
        for rank in range(2):
            grads = torch.load(tmp_path / f'{algorithm}{rank}.pth')
            for grad, p in zip(grads, learner.parameters()):
                torch.testing.assert_close(grad, p.grad)


@pytest.mark.parametrize('norm', [False, True])
def test_threads_adapt_one_model_each_to_its_own_support(norm):
    learner = build(Net(norm=norm), inner_lr=0.5, inner_steps=2).eval()
    data = [episodes(1)[0] for _ in range(6)]

    def predict(episode):
        return torch.stack(learner.episode_predict(episode['support'], [episode['query']]))

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(predict, data * 5))
    wanted = [predict(episode) for episode in data]
    assert not torch.allclose(wanted[0], wanted[1])
    for i, maps in enumerate(found):
        torch.testing.assert_close(maps, wanted[i % 6])
    assert not learner.model.training


def test_an_error_leaves_no_graph():
    learner, data = build(Net(), algorithm='maml'), episodes(2)
    broken = [data[0], dict(data[1], query=None)]
    with pytest.raises(TypeError):
        learner(broken, mode='loss')
    copy.deepcopy(learner)(data, mode='loss')


def normed(seed=0):
    torch.manual_seed(seed)
    return Net(norm=True).double()


def test_frozen_norms_see_no_batch():
    model = normed()
    learner = build(model, norms='frozen', inner_lr=0.5, inner_steps=2)
    model.norm.running_mean.add_(0.3)
    state = {n: b.clone() for n, b in model.named_buffers()}
    data = episodes(1, 4, torch.float64)
    learner.train()
    loss = learner(data, mode='loss')['loss_meta']
    assert all(torch.equal(b, state[n]) for n, b in model.named_buffers())
    assert model.norm.training  # the mode of the model is not touched
    # the images of a query do not see each other
    half = copy.deepcopy(data[0])
    parts = []
    for part in (slice(0, 2), slice(2, 4)):
        samples = data[0]['query']['data_samples'][part]
        half['query'] = dict(inputs=data[0]['query']['inputs'][part], data_samples=samples)
        parts.append(learner([half], mode='loss')['loss_meta'])
    torch.testing.assert_close(sum(parts) / 2, loss)


def test_norms_of_a_task_are_those_of_its_support():
    model = normed()
    learner = build(model, norms='task', inner_lr=0.5, inner_steps=1)
    data = episodes(1, 4, torch.float64)
    learner.train()
    loss = learner(data, mode='loss')['loss_meta']
    # by hand: adapt by batch statistics, measure the support, judge the query by that
    other = normed()
    support, query = data[0]['support'], data[0]['query']
    other.train()
    before = other(**support, mode='loss')['loss_seg']
    grads = torch.autograd.grad(before, [*other.parameters()])
    with torch.no_grad():
        for p, grad in zip(other.parameters(), grads):
            p -= 0.5 * grad
        other.norm.momentum = 1.0
        other(**support, mode='loss')
        other.norm.eval()
        expected = other(**query, mode='loss')['loss_seg']
    torch.testing.assert_close(loss.detach(), expected)
    # in prediction, too
    learner.eval()
    single = [dict(query, inputs=query['inputs'][:1], data_samples=query['data_samples'][:1])]
    found = learner([dict(support=support, query=single)], mode='predict')[0]
    model = normed()
    learner.model.load_state_dict(model.state_dict())
    found = learner([dict(support=support, query=single)], mode='predict')[0]
    other.eval()
    torch.testing.assert_close(found, other(query['inputs'][:1])[0])


def test_norms_need_norms():
    with pytest.raises(ValueError, match='norms'):
        build(Net(), norms='frozen')
    with pytest.raises(ValueError, match='norms'):
        build(Net(norm=True), norms='other')


@pytest.mark.parametrize('norm', [False, True])
def test_the_gain_is_what_the_steps_bring(norm):
    torch.manual_seed(0)
    learner = build(Net(norm=norm), inner_lr=0.5, inner_steps=3, gain_interval=2)
    data, found = episodes(1), []
    learner.train()
    for _ in range(4):
        state = {n: b.clone() for n, b in learner.model.named_buffers()}
        losses = learner(data, mode='loss')
        found.append(losses.get('meta/gain'))
        with torch.no_grad():
            learner.model.load_state_dict(state, strict=False)
    assert found[1] is None and found[3] is None
    assert found[0] == found[2]
    without = build(copy.deepcopy(learner.model), inner_lr=1e-9, inner_steps=3, gain_interval=0)
    same = without(data, mode='loss')
    assert 'meta/gain' not in same
    torch.testing.assert_close(found[0], (same['loss_meta'] - losses['loss_meta']).detach())


def test_a_step_over_parts_is_that_over_the_whole():
    torch.manual_seed(0)
    learner = build(Net().double(), inner_lr=0.5, clip=0.01)
    support = episodes(1, 5, torch.float64)[0]['support']
    parts = [
        dict(inputs=support['inputs'][part], data_samples=support['data_samples'][part])
        for part in (slice(0, 2), slice(2, 5))
    ]
    parameters, buffers = learner.initial_state()
    whole, (before,) = learner.inner(support, parameters, buffers, 1, first_order=True)
    found, loss = learner.step(iter(parts), parameters, buffers)
    assert loss == pytest.approx(before.item())
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value.detach())
        assert not found[name].requires_grad
    with pytest.raises(ValueError, match='batches'):
        learner.step([], parameters, buffers)
    parts[0]['inputs'] = parts[0]['inputs'] * float('nan')
    with pytest.raises(ValueError, match='nan'):
        learner.step(parts, parameters, buffers)
