import warnings

import pytest
import torch
from torch import nn

from hyper_mm.models.utils.aux_losses import AuxLossMixin, AuxLossSource, aux_loss_sources


class Part(AuxLossSource, nn.Module):
    """A layer that publishes the mean of its output as a loss."""

    def __init__(self, name='loss_part', **logged):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.name, self.logged = name, logged

    def forward(self, x):
        x = self.layer(x)
        if self.training:
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
    def test_adds_the_losses_of_the_last_pass(self, x):
        part = Part(radius=torch.tensor(2.0))
        losses = Model(part).loss(x)
        assert list(losses) == ['loss_main', 'loss_part', 'radius']
        torch.testing.assert_close(losses['loss_part'], part.layer(x).mean())

    def test_they_reach_the_weights(self, x):
        part = Part()
        Model(part).loss(x)['loss_part'].backward()
        torch.testing.assert_close(part.layer.bias.grad, torch.full((4,), 0.25))

    def test_hands_them_out_once(self, x):
        part = Part()
        Model(part).loss(x)
        assert part.aux_losses() == {}

    def test_finds_parts_at_any_depth(self, x):
        model = Model(nn.Sequential(nn.Identity(), nn.Sequential(Part())))
        assert 'loss_part' in model.loss(x)
        assert list(aux_loss_sources(model)) == ['parts.0.1.0']

    def test_same_name_twice_gets_the_path(self, x):
        losses = Model(Part(), Part()).loss(x)
        assert list(losses) == ['loss_main', 'loss_part', 'parts.1.loss_part']

    def test_does_not_replace_a_loss_of_the_model(self, x):
        model = Model(Part('loss_main'))
        losses = model.loss(x)
        torch.testing.assert_close(losses['loss_main'], model(x).square().mean())
        torch.testing.assert_close(losses['parts.0.loss_main'], model(x).mean())

    def test_drops_what_an_earlier_pass_left(self, x):
        """A forward pass outside of loss(), of a part that loss() then does not run."""
        model = Model(Part(), Part('loss_idle'))
        model(x)
        idle = model.parts[1]
        idle.forward = lambda y: y
        assert list(model.loss(x)) == ['loss_main', 'loss_part']
        assert idle.aux_losses() == {}

    def test_a_part_that_runs_twice_counts_once(self, x):
        part = Part()
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            losses = Model(part, part).loss(x)
        assert list(losses) == ['loss_main', 'loss_part']
        torch.testing.assert_close(losses['loss_part'], part.layer(part.layer(x)).mean())

    def test_model_without_parts_is_unchanged(self, x):
        assert list(Model(nn.Linear(4, 4)).loss(x)) == ['loss_main']

    def test_each_step_has_its_own(self, x):
        model = Model(Part())
        first, second = model.loss(x), model.loss(x + 1)
        assert first['loss_part'] != second['loss_part']
        (first['loss_part'] + second['loss_part']).backward()


class TestWarning:
    def test_once_at_the_second_step_of_a_stock_model(self, x):
        model = StockModel(Part())
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            model.loss(x)
        with pytest.warns(UserWarning) as caught:
            for _ in range(3):
                model.loss(x)
        assert len(caught) == 1
        message = str(caught[0].message)
        assert message.startswith("Part computes ['loss_part'] but the model does not add them")
        assert "type='hyper_mm.EncoderDecoder'" in message and 'weights' in message

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

    def test_silent_where_losses_are_collected_between_plain_passes(self, x):
        model = Model(Part())
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            model.loss(x)
            model(x)
            model(x)
