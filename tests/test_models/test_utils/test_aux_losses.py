import copy
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hyper_mm.layers.common.aux_losses import AuxLossSource
from hyper_mm.models.necks.hi_mapper_pooling import HiMapperPooling
from hyper_mm.models.utils.aux_losses import AuxLossMixin, collect_losses
from tests.helpers import runs


class Part(AuxLossSource, nn.Module):
    """A layer that publishes the mean of its output as a loss."""

    def __init__(self, name='loss_part', **logged):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.name, self.logged = name, logged

    def forward(self, x):
        x = self.layer(x)
        if self.publishes:
            entries = {self.name: x.mean()} if self.name else {}
            self.publish({**entries, **self.logged})
        return x


class StockModel(nn.Module):
    """What a framework offers: its ``loss`` knows nothing of its parts."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x

    def loss(self, x):
        return {'loss_main': self(x).square().mean()}


class Model(AuxLossMixin, StockModel):
    pass


@pytest.fixture
def x():
    return torch.randn(2, 4)


class TestMixin:
    def test_adds_the_losses_of_its_parts(self, x):
        part = Part(radius=torch.tensor(2.0))
        losses = Model(part).loss(x)
        assert list(losses) == ['loss_main', 'loss_part', 'radius']
        torch.testing.assert_close(losses['loss_part'], part.layer(x).mean())

    def test_they_reach_the_weights(self, x):
        part = Part()
        Model(part).loss(x)['loss_part'].backward()
        torch.testing.assert_close(part.layer.bias.grad, torch.full((4,), 0.25))

    def test_finds_parts_at_any_depth(self, x):
        model = Model(nn.Sequential(nn.Identity(), nn.Sequential(Part())))
        assert 'loss_part' in model.loss(x)

    def test_same_name_twice_gets_the_path(self, x):
        losses = Model(Part(), Part()).loss(x)
        assert list(losses) == ['loss_main', 'loss_part', 'parts.1.loss_part']

    def test_does_not_replace_a_loss_of_the_model(self, x):
        model = Model(Part('loss_main'))
        losses = model.loss(x)
        torch.testing.assert_close(losses['loss_main'], model(x).square().mean())
        torch.testing.assert_close(losses['parts.0.loss_main'], model(x).mean())

    def test_nothing_of_a_pass_outside_of_loss(self, x):
        model = Model(Part(), Part('loss_idle'))
        with collect_losses():
            model(x)
        model.parts[1].forward = lambda y: y
        assert list(model.loss(x)) == ['loss_main', 'loss_part']

    def test_a_part_that_runs_twice_counts_twice(self, x):
        part = Part()
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            losses = Model(part, part).loss(x)
        assert list(losses) == ['loss_main', 'loss_part']
        once = part.layer(x)
        torch.testing.assert_close(losses['loss_part'], once.mean() + part.layer(once).mean())

    def test_diagnostics_of_a_part_that_runs_twice_are_averaged(self, x):
        part = Part()
        radii = iter([torch.tensor(1.0), torch.tensor(3.0)])
        part.register_forward_pre_hook(lambda *_: part.logged.update(radius=next(radii)))
        assert Model(part, part).loss(x)['radius'] == 2

    def test_two_branches_of_a_semi_supervised_model(self, x):
        """As mmdet's SoftTeacher: one loss() of the student, and one more pass of its parts."""

        class Semi(nn.Module):
            def __init__(self, student):
                super().__init__()
                self.student = student

            def loss(self, x):
                losses = {f'sup_{k}': v for k, v in self.student.loss(x).items()}
                return dict(losses, unsup_loss=self.student(x + 1).mean())

        class Ours(AuxLossMixin, Semi):
            pass

        part = Part()
        one, two = part.layer(x).mean(), part.layer(x + 1).mean()
        found = Ours(StockModel(part)).loss(x)
        assert list(found) == ['sup_loss_main', 'unsup_loss', 'loss_part']
        torch.testing.assert_close(found['loss_part'], one + two)
        found = Ours(Model(part)).loss(x)  # the inner model has collected its own
        torch.testing.assert_close(found['sup_loss_part'], one)
        torch.testing.assert_close(found['loss_part'], two)

    def test_an_error_leaves_nothing_behind(self, x):
        model = Model(Part(), Part('loss_other'))
        model.parts[1].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.loss(x)
        copy.deepcopy(model.parts[0])
        model.parts[1]._forward_pre_hooks.clear()
        assert list(model.loss(x)) == ['loss_main', 'loss_part', 'loss_other']

    def test_a_model_is_copied_while_its_losses_live(self, x):
        model = Model(Part())
        losses = model.loss(x)
        again = copy.deepcopy(model).loss(x)
        torch.testing.assert_close(again, losses)

    def test_threads_keep_their_own(self):
        model, found = Model(Part()), {}
        gate = threading.Barrier(6, timeout=60)
        inputs = torch.randn(6, 16, 2, 4)

        def work(index):
            for x in inputs[index]:
                gate.wait()
                found.setdefault(index, []).append(model.loss(x)['loss_part'].detach())

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = model.parts[0].layer(inputs).mean((-1, -2))
        torch.testing.assert_close(
            torch.stack([torch.stack(found[i]) for i in range(6)]), expected.detach()
        )

    def test_model_without_parts_is_unchanged(self, x):
        assert list(Model(nn.Linear(4, 4)).loss(x)) == ['loss_main']

    def test_each_step_has_its_own(self, x):
        model = Model(Part())
        first, second = model.loss(x), model.loss(x + 1)
        assert first['loss_part'] != second['loss_part']
        (first['loss_part'] + second['loss_part']).backward()


class TestWarning:
    def test_once_at_the_first_step_of_a_stock_model(self, x):
        model = StockModel(Part())
        with pytest.warns(UserWarning):
            model.loss(x)
        model = StockModel(Part())
        with pytest.warns(UserWarning) as caught:
            for _ in range(3):
                model.loss(x)
        assert len(caught) == 1
        message = str(caught[0].message)
        assert message.startswith("Part computes ['loss_part'] but the model does not add them")
        assert "type='hyper_mm.EncoderDecoder'" in message and 'weights' in message
        assert 'distributed training stops' in message

    @pytest.mark.parametrize(
        'model',
        [
            Model(Part(), Part()),
            StockModel(Part(name=None, radius=torch.tensor(1.0))),
            StockModel(Part()).eval(),
        ],
        ids=['collected', 'nothing to lose', 'evaluation'],
    )
    def test_silent(self, model, x):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            for _ in range(3):
                model.loss(x)


class Checkpointed(nn.Module):
    """A model whose parts are run by activation checkpointing, wholly or each."""

    def __init__(self, parts, whole, options):
        super().__init__()
        self.parts = nn.Sequential(*parts)
        self.whole, self.options = whole, options

    def forward(self, x):
        for part in [self.parts] if self.whole else self.parts:
            x = part(x) if self.options is None else checkpoint(part, x, **self.options)
        return x

    def loss(self, x):
        return {'loss_main': self(x).square().mean()}


class CheckpointedModel(AuxLossMixin, Checkpointed):
    pass


class Mapper(nn.Module):
    """The first part: a backbone, and Hi-Mapper with its losses."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        tree, lift = dict(num_leaves=4, num_levels=2), dict(hyp_dim=4)
        size = dict(tree=tree, lift=lift, width=8, num_heads=2)
        self.neck = HiMapperPooling(8, **size)

    def forward(self, x):
        return self.neck(self.conv(x))[0]


class Tail(AuxLossSource, nn.Module):
    """The second part: publishes, and drops."""

    def __init__(self):
        super().__init__()
        self.layer, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(self.layer(x))
        if self.publishes:
            self.publish({'loss_tail': x.square().mean()})
        return x


class JoinedTail(Tail):
    """The same, with its loss joined to its output."""

    def forward(self, x):
        x = self.drop(self.layer(x))
        if self.publishes:
            (x,) = self.publish({'loss_tail': x.square().mean()}, x)
        return x


class Losses(nn.Module):
    """The losses of a model as its forward pass, for DistributedDataParallel."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.loss(x)


REPETITIONS = dict(none=None, reentrant=dict(use_reentrant=True), other=dict(use_reentrant=False))


def _rank(rank, folder):
    store = f'file://{folder}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    gradients = {}
    for name, options in REPETITIONS.items():
        torch.manual_seed(0)
        model = CheckpointedModel([Mapper(), JoinedTail()], False, options).double()
        parallel = nn.parallel.DistributedDataParallel(Losses(model))
        for step in range(2):
            torch.manual_seed(10 * step + rank)
            x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
            losses = parallel(x)
            assert {'loss_hier_cont', 'loss_hier_kl', 'loss_tail'} < losses.keys()
            sum(value for key, value in losses.items() if 'loss' in key).backward()
        gradients[name] = [p.grad for p in model.parameters()]
    torch.save(gradients, f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


class TestCheckpointing:
    @pytest.mark.slow
    def test_in_two_processes(self, tmp_path):
        """Gradients are those without checkpointing, averaged over the processes."""
        runs.ranks(_rank, str(tmp_path))
        first, second = (torch.load(tmp_path / f'{k}.pth', weights_only=True) for k in range(2))
        expected = first.pop('none')
        assert all(grad is not None and grad.any() for grad in expected)
        for found in (*first.values(), *second.values()):
            for a, b in zip(found, expected):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)

    @staticmethod
    def train(whole, options, scale):
        torch.manual_seed(0)
        model = CheckpointedModel([Mapper(), Tail()], whole, options).double()
        x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
        losses = []
        for step in range(2):
            torch.manual_seed(step)
            found = model.loss(x)
            losses.append({name: float(value.detach()) for name, value in found.items()})
            (scale * sum(v for k, v in found.items() if 'loss' in k)).backward()
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            copy.deepcopy(model)
        return losses, [x.grad, *(p.grad for p in model.parameters())]

    @pytest.mark.parametrize('whole', [True, False], ids=['all parts', 'each part'])
    @pytest.mark.parametrize('reentrant', [True, False])
    def test_neither_doubles_nor_loses_a_loss(self, whole, reentrant):
        """The scale of the total loss, as of a GradScaler, reaches the losses of the parts."""
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            expected, gradients = self.train(whole, None, 3.0)
            losses, found = self.train(whole, dict(use_reentrant=reentrant), 3.0)
        for a, b in zip(losses, expected):
            assert a == pytest.approx(b, rel=1e-12)
        assert {'loss_hier_cont', 'loss_hier_kl', 'loss_tail'} < losses[0].keys()
        for a, b in zip(found, gradients):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
