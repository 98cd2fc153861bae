"""Steps on a support, and the choice of their rate."""

import math

import pytest
import torch

pytest.importorskip('mmseg')
pytestmark = pytest.mark.mmseg

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from hyper_mm.engine.adaptation import steps  # noqa: E402
from hyper_mm.engine.adaptation.views import Views  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.test_engine.test_adaptation.test_views import item  # noqa: E402

SEGMENTOR = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[50.0] * 3, std=[50.0] * 3, size_divisor=4,
        test_cfg=dict(size_divisor=4), seg_pad_val=255,
    ),
    backbone=dict(
        type='UNet', base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1),
        dec_num_convs=(1,), downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,),
    ),
    decode_head=dict(
        type='FCNHead', in_channels=4, channels=4, num_convs=0, num_classes=2, in_index=-1,
        dropout_ratio=0.0, concat_input=False, norm_cfg=dict(type='BN'),
    ),
    auxiliary_head=dict(
        type='FCNHead', in_channels=4, channels=4, num_convs=0, num_classes=2, in_index=-1,
        concat_input=False,
    ),
    test_cfg=dict(mode='whole'),
)  # fmt: skip
OPTIONS = dict(crop=16, augment=False)


@pytest.fixture
def learner():
    init_default_scope('mmseg')
    torch.manual_seed(0)
    cfg = dict(
        type='hyper_mm.MetaLearner', model=ConfigDict(SEGMENTOR), inner_lr=0.3, norms='frozen'
    )
    return MODELS.build(cfg)


def data(count=3):
    return [item(16, 16, i) for i in range(count)]


def test_steps_learn_and_leave_the_model_as_it_is(learner):
    before = {n: p.clone() for n, p in learner.model.state_dict().items()}
    views = Views(data(), learner.model.data_preprocessor, **OPTIONS)
    state, losses, kept = steps.fit(learner, views, 12, 0.1, kept=(4,))
    assert len(losses) == 12 and losses[-1] < losses[0]
    assert sorted(kept) == [4, 12] and kept[12] is state
    assert learner.inner_lr == 0.3
    assert all(torch.equal(v, before[n]) for n, v in learner.model.state_dict().items())
    short, _, _ = steps.fit(learner, views, 4, 0.1)
    for name, value in short.parameters.items():
        torch.testing.assert_close(value, kept[4].parameters[name])
    items = data()
    found = [s.pred_sem_seg.data for s in steps.predict(learner, state, items)]
    steps.commit(learner, state)
    again = [s.pred_sem_seg.data for s in steps.predict(learner, None, items)]
    assert all(torch.equal(a, b) for a, b in zip(found, again))


def test_the_choice_is_the_best_of_what_was_left_out(learner):
    choice = steps.choose(learner, data(), [1e-4, 0.1], 12, OPTIONS)
    assert {n for _, n in choice.table} == {0, 3, 6, 12}
    tried = {k: v for k, v in choice.table.items() if k[1]}
    assert tried[choice.rate, choice.steps] == max(tried.values())
    assert choice.rate == 0.1 and tried[0.1, choice.steps] > choice.table[None, 0]
    assert steps.choose(learner, data(), [1e-4, 0.1], 12, OPTIONS) == choice
    one = steps.choose(learner, data(1), [0.1], 4, OPTIONS)  # halves of the image
    assert len(one.table) == 4


def test_rates_that_diverge_are_not_chosen(learner):
    choice = steps.choose(learner, data(), [1e30, 0.1], 4, OPTIONS)
    assert choice.rate == 0.1 and choice.table[1e30, 4] == -math.inf
    with pytest.raises(ValueError, match='--rates'):
        steps.choose(learner, data(), [1e30], 4, OPTIONS)


def test_an_error_that_no_rate_caused_is_not_taken_for_one(learner, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError('a.png is no image')

    monkeypatch.setattr(Views, 'step', broken)
    with pytest.raises(ValueError, match='a.png is no image'):
        steps.choose(learner, data(), [0.1, 0.3], 4, OPTIONS)


def test_rates_are_not_given_beside_learned_ones(learner):
    steps.check_rates(learner, 0.1, None)
    learner.rates = torch.nn.ParameterList()
    steps.check_rates(learner, None, None)
    for option, given in (('--lr', (0.1, None)), ('--rates', (None, [0.1, 0.3]))):
        with pytest.raises(ValueError, match=f'{option} must be left out: .* learned its rates'):
            steps.check_rates(learner, *given)


def test_rates_to_try(learner):
    assert steps.rates_of(learner, True) == [*steps.PLAIN_RATES]
    assert steps.rates_of(learner, False) == pytest.approx([0.1, 0.3, 0.9])
    learner.rates = torch.nn.ParameterList()
    assert steps.rates_of(learner, False) == [None]


def test_dice_of_several_classes():
    truth = torch.tensor([[1, 1, 2, 255]])
    assert steps.dice(torch.tensor([[1, 0, 2, 1]]), truth, 4) == pytest.approx((200 / 3 + 100) / 2)
    assert math.isnan(steps.dice(torch.zeros(1, 4), torch.zeros(1, 4), 2))


def test_another_number_of_classes(learner):
    model = learner.model
    steps.renew_classes(model, 3)
    assert model.num_classes == model.decode_head.num_classes == 3
    assert not model.with_auxiliary_head
    views = Views(data(), model.data_preprocessor, **OPTIONS)
    state, _, _ = steps.fit(learner, views, 2)
    (found,) = steps.predict(learner, state, data(1), logits=True)
    assert found.seg_logits.data.shape == (3, 16, 16)
    (found,) = steps.predict(learner, state, data(1))
    assert 'seg_logits' not in found and found.pred_sem_seg.data.dtype == torch.uint8
    with pytest.raises(ValueError, match='classes'):
        steps.renew_classes(model, 1)
    model.decode_head.conv_seg = torch.nn.Identity()
    with pytest.raises(TypeError, match='conv_seg'):
        steps.renew_classes(model, 3)


def test_norms_that_depend_on_the_rest_of_the_image():
    layers = [torch.nn.InstanceNorm2d(4), torch.nn.GroupNorm(2, 4), torch.nn.BatchNorm2d(4)]
    assert steps.norms_of_one_image(torch.nn.Sequential(*layers)) == ['GroupNorm', 'InstanceNorm2d']
    fixed = torch.nn.InstanceNorm2d(4, track_running_stats=True)
    assert steps.norms_of_one_image(torch.nn.Sequential(fixed, layers[2])) == []


def test_what_to_try_next():
    rates = [0.1, 0.3]
    assert steps.at_the_edge(steps.Choice(0.1, 5, {}), rates, 20) == []
    greatest, longest = steps.at_the_edge(steps.Choice(0.3, 20, {}), rates, 20)
    assert '--rates 0.3 0.9 3 ' in greatest and '--steps 40 ' in longest
    assert steps.at_the_edge(steps.Choice(None, 5, {}), [None], 20) == []  # learned rates
    assert steps.at_the_edge(steps.Choice(0.3, 5, {}), [0.3], 20) == []  # given
