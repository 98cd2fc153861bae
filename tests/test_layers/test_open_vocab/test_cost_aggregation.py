import pytest
import torch

from hyper_mm.layers import CostAggregator
from tests.helpers.tools import load_tool

SMALL = dict(
    text_dim=12,
    appearance_dim=12,
    guidance_dims=(10, 6),
    dim=16,
    projected_dim=8,
    decoder_dims=(32, 16),
    decoder_guidance_dims=(6, 4),
    num_heads=2,
    window=4,
    pad_len=9,
)


def straightforward(module):
    benchmark = load_tool('benchmarks/straightforward_aggregator.py')
    return benchmark.StraightforwardAggregator(module)


def make(**options):
    module = CostAggregator(**{**SMALL, **options}).double()
    for name, parameter in module.named_parameters():
        if 'padding' in name:
            torch.nn.init.normal_(parameter)
    return module


def inputs(batch=2, classes=5, side=8, prompts=1, height=None):
    size = (height or side, side)
    image = torch.randn(batch, 12, *size, dtype=torch.float64)
    text = torch.randn(classes, prompts, 12, dtype=torch.float64)
    maps = [
        torch.randn(batch, c, k * size[0], k * size[1], dtype=torch.float64)
        for c, k in ((10, 2), (6, 4))
    ]
    return image, text, [image, *maps]


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(('classes', 'pad_len'), [(5, 9), (9, 9), (5, 5), (1, 9)])
def test_equals_the_straightforward_implementation(training, classes, pad_len):
    module = make(pad_len=pad_len).train(training)
    given = inputs(classes=classes)
    torch.testing.assert_close(module(*given), straightforward(module).train(training)(*given))


@pytest.mark.parametrize('options', [dict(class_chunk=2), dict(checkpoint=True)])
@pytest.mark.parametrize('classes', [5, 14])
def test_chunks_and_checkpoints_change_nothing(options, classes):
    module = make()
    given = inputs(classes=classes)
    given[0].requires_grad_()
    expected = module(*given)
    wanted = torch.autograd.grad(expected.square().mean(), module.parameters(), allow_unused=True)
    module.class_chunk = options.get('class_chunk')
    module.checkpoint = options.get('checkpoint', False)
    found = module(*given)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found.square().mean(), module.parameters(), allow_unused=True)
    for a, b in zip(grads, wanted):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize('classes', [5, 14])
def test_images_of_a_batch_do_not_depend_on_each_other(classes):
    module = make().eval()
    image, text, guidance = inputs(classes=classes)
    both = module(image, text, guidance)
    for i in range(2):
        one = slice(i, i + 1)
        alone = module(image[one], text, [g[one] for g in guidance])
        torch.testing.assert_close(both[one], alone)


def test_classes_are_a_set():
    module = make().eval()
    image, text, guidance = inputs(classes=6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = module(image, text, guidance)[:, order]
    torch.testing.assert_close(module(image, text[order], guidance), expected)


def test_keeps_the_classes_with_the_highest_cosine():
    module = make(pad_len=3).eval()
    image, text, guidance = inputs(batch=1, classes=7)
    cosine = torch.nn.functional.cosine_similarity(
        image[:, None], text[None, :, 0, :, None, None], dim=2
    )
    best = cosine.amax((2, 3)).topk(3).indices[0]
    logits = module(image, text, guidance)[0]
    left_out = logits.amax((1, 2)) == -100
    assert set(best.tolist()) == {i for i in range(7) if not left_out[i]}
    torch.testing.assert_close(logits[best], module(image, text[best], guidance)[0])


@pytest.mark.parametrize(('height', 'side'), [(5, 7), (9, 6), (3, 3), (1, 4)])
def test_any_size_and_several_prompts(height, side):
    module = make(num_prompts=2)
    out = module(*inputs(side=side, height=height, prompts=2))
    assert out.shape == (2, 5, 4 * height, 4 * side)
    out.mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_bfloat16_autocast():
    module = make().float()
    given = [x.float() if torch.is_tensor(x) else [m.float() for m in x] for x in inputs()]
    expected = module(*given)
    with torch.autocast('cpu', torch.bfloat16):
        found = module(*given)
    found.float().mean().backward()
    assert (found.float() - expected).abs().max() < 0.1 * expected.abs().max()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_parameters_are_those_of_the_official_code():
    assert sum(p.numel() for p in CostAggregator().parameters()) == 2308961


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_heads=3), 'num_heads must divide dim 16, got 3'),
        (dict(num_heads=0), 'num_heads must be an integer of at least 1, got 0'),
        (dict(num_prompts=0), 'num_prompts must be an integer of at least 1, got 0'),
        (dict(decoder_dims=(24, 16)), r'decoder_dims must .* got \(24, 16\)'),
        (dict(guidance_dims=(8,)), r'guidance_dims must be two .* got \(8,\)'),
        (dict(train_pooling=(0, 1)), r'train_pooling must be two .* got \(0, 1\)'),
        (dict(test_pooling=2), 'test_pooling must be two .* got 2'),
        (dict(decoder_guidance_dims=(16, 4)), r'below dim .* got \(16, 4\)'),
        (dict(class_chunk=0), 'class_chunk must be an integer of at least 1, got 0'),
        (dict(pad_len=-1), 'pad_len must be an integer of at least 0, got -1'),
        (dict(window=0), 'window must be an integer of at least 1, got 0'),
        (dict(class_chunk=-2), 'class_chunk must be an integer of at least 1, got -2'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_bfloat16_weights():
    module = make().bfloat16()
    given = [x.bfloat16() if torch.is_tensor(x) else [m.bfloat16() for m in x] for x in inputs()]
    assert module(*given).isfinite().all()


def test_bad_shapes():
    module = make()
    image, text, guidance = inputs()
    with pytest.raises(ValueError, match=r'text must be .* got \(3, 5, 1, 12\)'):
        module(image, text.expand(3, -1, -1, -1), guidance)
    with pytest.raises(ValueError, match=r'image must be .* got \(12, 8, 8\)'):
        module(image[0], text, guidance)
    with pytest.raises(ValueError, match=r'text must be .* got \(5, 12\)'):
        module(image, text[:, 0], guidance)
    with pytest.raises(ValueError, match='at least one class'):
        module(image, text[:0], guidance)
    with pytest.raises(ValueError, match='guidance must be three maps'):
        module(image, text, guidance[:2])
