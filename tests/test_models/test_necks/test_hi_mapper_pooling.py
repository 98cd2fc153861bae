import pytest
import torch

from hyper_mm.models import HiMapper, HiMapperPooling
from tests.helpers.losses import run

SMALL = dict(in_channels=12, num_leaves=8, num_levels=3, width=8, num_heads=2)


def make(**options):
    return HiMapperPooling(**{**SMALL, **options})


def test_class_token_is_enriched_by_the_patches():
    neck = make(num_prefix_tokens=1).eval()
    tokens = torch.randn(2, 10, 12)
    (out,) = neck((tokens,))
    found = neck.mapper(tokens[:, 1:], tokens[:, :1])
    torch.testing.assert_close(out, tokens[:, 0] + found.update[:, 0])


def test_two_prefix_tokens_do_not_see_each_other():
    neck = make(num_prefix_tokens=2).eval()
    tokens = torch.randn(2, 11, 12)
    ((cls, dist),) = neck((tokens,))
    other = tokens.clone()
    other[:, 1] = torch.randn(2, 12)
    ((same, changed),) = neck((other,))
    torch.testing.assert_close(same, cls)
    assert not torch.allclose(changed, dist)
    single = make(num_prefix_tokens=1).eval()
    single.load_state_dict(neck.state_dict())
    torch.testing.assert_close(single((tokens[:, [0, *range(2, 11)]],))[0], cls)


def test_feature_map_is_pooled():
    neck = make().eval()
    x = torch.randn(2, 12, 4, 5)
    (out,) = neck((torch.randn(2, 3, 8, 10), x))
    assert out.shape == (2, 12)
    memory = x.flatten(2).mT
    torch.testing.assert_close(out, neck.mapper(memory, memory.mean(1, keepdim=True)).token[:, 0])
    torch.testing.assert_close(neck(x)[0], out)


def test_zero_init_out_starts_as_plain_pooling():
    x = torch.randn(2, 12, 4, 5)
    torch.testing.assert_close(make(zero_init_out=True)(x)[0], x.mean((2, 3)))


def test_one_position_and_one_image():
    neck = make(num_prefix_tokens=1)
    (out,), losses = run(neck, (torch.randn(1, 2, 12, requires_grad=True),))
    out.sum().backward()
    assert all(torch.as_tensor(v).isfinite() for v in losses.values())
    assert {'loss_hier_cont', 'loss_hier_kl'} <= set(losses)


def test_its_module_is_that_of_the_dense_neck():
    dense = HiMapper(**SMALL)
    found = {k for k in make().state_dict() if k.startswith('mapper.')}
    assert found == {k for k in dense.state_dict() if k.startswith('mapper.')}


@pytest.mark.parametrize(
    ('options', 'shape', 'message'),
    [
        (dict(num_prefix_tokens=1), (2, 12, 4, 5), r'takes features \(B, P \+ M, d\).*raw'),
        (dict(), (2, 10, 12), r'takes features \(B, d, H, W\), got \(2, 10, 12\)'),
        (dict(), (2, 10, 4, 5), 'in_channels is 12, but the backbone gives 10 channels'),
        (dict(num_prefix_tokens=2), (2, 2, 12), '2 tokens leave no patch'),
    ],
)
def test_features_that_do_not_fit(options, shape, message):
    with pytest.raises(ValueError, match=message):
        make(**options)((torch.randn(shape),))


def test_class_token_alone_is_refused():
    with pytest.raises(ValueError, match='num_prefix_tokens=1 takes features'):
        make(num_prefix_tokens=1)((torch.randn(2, 12),))


@pytest.mark.parametrize('token', [True, False])
def test_features_that_are_not_finite(token):
    tokens = torch.randn(2, 10, 12)
    tokens[0, 0 if token else 3, 0] = torch.nan
    what = 'class tokens' if token else 'features'
    with pytest.raises(ValueError, match=f'HiMapperPooling: 1 of .* input {what} are not finite'):
        make(num_prefix_tokens=1)((tokens,))


def test_bad_num_prefix_tokens():
    with pytest.raises(ValueError, match=r'num_prefix_tokens must be one of \(0, 1, 2\), got 3'):
        make(num_prefix_tokens=3)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_tokens_of_half_precision_leave_as_they_came(dtype):
    with torch.autocast('cpu', dtype):
        (out,) = make().eval()((torch.randn(2, 12, 4, 5, dtype=dtype),))
    assert out.dtype == dtype


@pytest.mark.parametrize('training', [True, False])
def test_batch_without_images(training):
    neck = make().train(training)
    (out,), losses = run(neck, (torch.randn(0, 12, 4, 5),))
    assert out.shape == (0, 12)
    if training:
        assert losses['loss_hier_cont'] == 0


@pytest.mark.parametrize('inputs', [dict(x=torch.ones(2, 12, 4, 5)), None, ()])
def test_inputs_that_are_no_features(inputs):
    with pytest.raises(TypeError, match='takes the outputs of a backbone, a tensor or a tuple'):
        make()(inputs)
