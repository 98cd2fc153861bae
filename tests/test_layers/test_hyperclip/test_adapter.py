import copy
import io

import pytest
import torch
from torch import nn

from hyper_mm import apply_hyperclip
from hyper_mm.layers import HyperCLIPAdapter
from hyper_mm.layers.open_vocab.dense_clip import dense_features

open_clip = pytest.importorskip('open_clip')

from tests.helpers.clip import SMALL, make_clip  # noqa: E402

CASES = {
    'default': {},
    'euclidean': dict(space='euclidean'),
    'clips': dict(curvature=30.0, text_curvature=60.0),
    'shared': dict(shared=True),
    'with out': dict(projections=('q', 'k', 'v', 'out')),
    'q and v': dict(projections=('v', 'q')),
    'out alone': dict(projections=('out',)),
    'vision': dict(towers=('vision',)),
    'text': dict(towers=('text',)),
    'last layers': dict(layers=(-1,)),
    'one by name': dict(layers=('visual.transformer.resblocks.1.attn',)),
    'input, euclidean': dict(target='input', space='euclidean'),
}


def disturb(adapter, scale=0.1):
    torch.manual_seed(1)
    with torch.no_grad():
        for one in adapter.parameters():
            one += scale * torch.randn_like(one)


def outputs(clip):
    torch.manual_seed(2)
    return clip.encode_image(torch.randn(2, 3, 32, 32)), clip.encode_text(
        torch.randint(1, 64, (3, 9))
    )


def plain_outputs():
    with torch.no_grad():
        return outputs(make_clip())


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def adapted(request):
    clip = make_clip()
    return clip, apply_hyperclip(clip, 4, **request.param)


def close(found, expected, rtol=1e-5):
    return all((a - b).norm() <= rtol * b.norm() for a, b in zip(found, expected))


def test_starts_as_the_plain_model(adapted, request):
    clips = 'clips' in request.node.name  # a largest length below that of the weights
    assert close(outputs(adapted[0]), plain_outputs()) == (not clips)


def test_only_the_adapter_trains(adapted):
    clip, adapter = adapted
    before = {n: p.detach().clone() for n, p in clip.named_parameters()}
    own = {id(p) for p in adapter.parameters()}
    assert own == {id(p) for p in clip.parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    clip.train()
    sum(x.square().sum() for x in outputs(clip)).backward()
    optimizer.step()
    for name, parameter in clip.named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert moved == (id(parameter) in own), name


def test_merged_equals_unmerged_and_comes_back(adapted):
    clip, adapter = adapted
    disturb(adapter)
    with torch.no_grad():
        expected = outputs(clip)
        assert not close(expected, plain_outputs())
        adapter.merge()
        assert adapter.merged
        assert close(outputs(clip), expected)
        names = {n for n, _ in clip.named_parameters()}
        assert names == {n for n, _ in make_clip().named_parameters()}
        assert type(clip.visual.transformer.resblocks[0].attn) is nn.MultiheadAttention
        adapter.unmerge()
        assert not adapter.merged
        assert all(torch.equal(a, b) for a, b in zip(outputs(clip), expected))


def test_state_holds_the_adapter_alone_and_loads_onto_any_base(adapted, request):
    clip, adapter = adapted
    disturb(adapter)
    file = io.BytesIO()
    torch.save(adapter.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    blocks = {name: value for name, value in state.items() if name != 'options'}
    assert sum(v.numel() for v in blocks.values()) == sum(p.numel() for p in adapter.parameters())
    other = make_clip()
    fresh = apply_hyperclip(other, 4, **request.getfixturevalue('adapted_options'))
    fresh.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(outputs(other), outputs(clip)))


@pytest.fixture
def adapted_options(request):
    return request.node.callspec.params['adapted']


def test_gradients_are_those_of_the_plain_formula():
    clip = make_clip().double()
    adapter = apply_hyperclip(clip, 4, curvature=1.0)
    for one in adapter.parameters():
        one.data = one.data.double()
    disturb(adapter)
    maps = dict(adapter.named_maps())
    name = 'visual.transformer.resblocks.1.attn'
    attention = clip.visual.transformer.resblocks[1].attn
    w = attention.parametrizations.in_proj_weight.original
    expected = torch.cat([maps[f'{name}.{p}'](rows) for p, rows in zip('qkv', w.chunk(3))])
    torch.testing.assert_close(attention.in_proj_weight, expected)
    torch.manual_seed(3)
    x, cot = torch.randn(2, 5, 32).double(), torch.randn(2, 5, 32).double()
    (attention(x, x, x, need_weights=False)[0] * cot).sum().backward()
    found = [maps[f'{name}.{p}'].weight.grad.clone() for p in 'qkv']
    reference = nn.MultiheadAttention(32, 4, batch_first=True).double()
    reference.load_state_dict(
        {
            'in_proj_weight': expected,
            'in_proj_bias': attention.in_proj_bias,
            'out_proj.weight': attention.out_proj.weight,
            'out_proj.bias': attention.out_proj.bias,
        }
    )
    (reference(x, x, x, need_weights=False)[0] * cot).sum().backward()
    leaves = [maps[f'{name}.{p}'].weight for p in 'qkv']
    wanted = torch.autograd.grad(expected, leaves, reference.in_proj_weight.grad)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b)


def test_input_target_is_the_weight_target_within_the_largest_length():
    results = []
    for target in ('weight', 'input'):
        clip = make_clip()
        adapter = apply_hyperclip(clip, 4, target=target, curvature=1e-4)
        disturb(adapter)
        x = torch.ones(1, 3, 32, 32)
        results.append((*outputs(clip), dense_features(clip.visual, x).features))
    assert close(*results)


def test_the_adapted_weight_is_computed_once_a_forward_pass():
    clip = make_clip()
    adapter = apply_hyperclip(clip, 4)
    calls = []
    for name, part in adapter.named_maps():
        part.register_forward_hook(lambda *_, name=name: calls.append(name))
    for mode in (True, False):
        clip.train(mode)
        with torch.set_grad_enabled(mode):
            outputs(clip)
        assert sorted(calls) == sorted(name for name, _ in adapter.named_maps())
        calls.clear()


def test_a_failed_forward_pass_leaves_nothing_behind():
    clip = make_clip()
    adapter = apply_hyperclip(clip, 4)
    attention = clip.visual.transformer.resblocks[0].attn
    with pytest.raises((RuntimeError, AssertionError)):
        attention(*[torch.zeros(1, 2, 5)] * 3)
    before = attention.in_proj_weight.clone()
    disturb(adapter)
    assert not torch.equal(attention.in_proj_weight, before)


def test_a_copy_of_the_model_has_an_adapter_of_its_own():
    clip = make_clip()
    adapter = apply_hyperclip(clip, 4)
    copied = copy.deepcopy(clip)
    expected = outputs(copied)
    disturb(adapter)
    assert all(torch.equal(a, b) for a, b in zip(outputs(copied), expected))
    assert not close(outputs(clip), expected)


def test_weights_of_the_plain_model_load_into_the_adapted_one(adapted, request):
    clip, adapter = adapted
    torch.manual_seed(5)
    other = open_clip.CLIP(**SMALL).eval()
    own = {id(p) for p in adapter.parameters()}
    result = clip.load_state_dict(other.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert {id(clip.get_parameter(name)) for name in result.missing_keys} == own
    if 'clips' not in request.node.name:
        assert close(outputs(clip), outputs(other))


OTHER = {
    'space': (dict(), dict(space='euclidean'), "space='poincare', .* space='euclidean'"),
    'curvature': (dict(curvature=1.0), dict(), 'curvature=1.0, .*curvature=0.01'),
    'text_curvature': (dict(text_curvature=1.0), dict(), 'curvature=1.0, .*curvature=0.01'),
    'target': (dict(projections=('q',)), dict(projections=('q',), target='input'), 'target'),
}


@pytest.mark.parametrize(('trained', 'loaded', 'message'), OTHER.values(), ids=OTHER.keys())
@pytest.mark.parametrize('strict', [True, False])
def test_other_options_are_refused(trained, loaded, message, strict):
    """Of the adapter's own state and, where the names of the weights agree, of the model's."""
    clip, other = make_clip(), make_clip()
    adapter, fresh = apply_hyperclip(clip, 4, **trained), apply_hyperclip(other, 4, **loaded)
    disturb(adapter)
    with pytest.raises(ValueError, match=message):
        fresh.load_state_dict(adapter.state_dict())
    if message != 'target':
        with pytest.raises(ValueError, match=f'attn.* was trained with {message}'):
            other.load_state_dict(clip.state_dict(), strict=strict)


def test_states_from_before_options_were_saved():
    clip, other = make_clip(), make_clip()
    adapter, fresh = apply_hyperclip(clip, 4, curvature=1.0), apply_hyperclip(other, 4)
    disturb(adapter)
    state = {k: v for k, v in adapter.state_dict().items() if k != 'options'}
    with pytest.warns(UserWarning, match="without the options .*'curvature': 0.01"):
        fresh.load_state_dict(state)
    state = {k: v for k, v in clip.state_dict().items() if not k.endswith('_extra_state')}
    with pytest.warns(UserWarning, match="without the options .*'curvature': 0.01"):
        other.load_state_dict(state, strict=True)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), adapter.parameters()))


@pytest.mark.parametrize('freeze', [True, False])
def test_freeze(freeze):
    clip = make_clip()
    own = {id(p) for p in apply_hyperclip(clip, 4, freeze=freeze).parameters()}
    rest = {p.requires_grad for p in clip.parameters() if id(p) not in own}
    assert rest == {not freeze}


def test_cached_equals_merged(adapted):
    clip, adapter = adapted
    disturb(adapter)
    with torch.no_grad():
        expected = outputs(clip)
        with adapter.cached():
            found = outputs(clip)
            assert not adapter.merged
        adapter.merge()
        assert all(torch.equal(a, b) for a, b in zip(outputs(clip), found))
    assert close(found, expected)


def test_cached_where_nothing_merges():
    clip = make_clip()
    adapter = apply_hyperclip(clip, 4, target='input', curvature=50.0)
    disturb(adapter)
    with torch.no_grad():
        expected = outputs(clip)
        with adapter.cached():
            assert all(torch.equal(a, b) for a, b in zip(outputs(clip), expected))
    with pytest.raises(ValueError, match='not attached'):
        HyperCLIPAdapter(4).cached()


def test_bfloat16_autocast():
    clip = make_clip()
    disturb(apply_hyperclip(clip, 4))
    expected = outputs(clip)
    with torch.autocast('cpu', torch.bfloat16):
        found = outputs(clip)
        sum(x.float().square().sum() for x in found).backward()
    assert close([x.float() for x in found], expected, rtol=0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in clip.parameters())


def test_clipped_fraction():
    clip = make_clip()
    adapter = apply_hyperclip(clip, 4, curvature=1e-4, text_curvature=1e6)
    assert adapter.clipped() == {'vision': 0, 'text': 1}
    adapter.merge()
    assert adapter.clipped() == {'vision': 0, 'text': 1}


@pytest.mark.parametrize(
    ('block_size', 'count'),
    [(1, 46080), (8, 368640), (32, 1474560), (128, 5898240), (256, 11796480)],
)
def test_parameters_of_vit_b16(block_size, count):
    class Tower(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.blocks = nn.ModuleList(nn.MultiheadAttention(width, 8) for _ in range(12))

    clip = nn.Module()
    with torch.device('meta'):
        clip.visual, clip.transformer = Tower(768), Tower(512)
    clip = clip.to_empty(device='cpu')
    adapter = HyperCLIPAdapter(block_size).attach(clip)
    assert sum(p.numel() for p in adapter.parameters()) == count
    assert f'{count:,} parameters' in repr(adapter)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(block_size=5), 'block_size must divide the width 32 .*, got 5'),
        (dict(projections=()), 'projections must be some of'),
        (dict(projections=('q', 'x')), "projections must be some of .*'x'"),
        (dict(towers=('audio',)), 'towers must be some of'),
        (dict(layers=()), 'layers must name at least one'),
        (dict(layers=(3,)), 'layers must be numbers below 3 .* got 3'),
        (dict(layers=('visual.nothing',)), "layers must .* got 'visual.nothing'"),
        (dict(space='lorentz'), "space must be one of .* got 'lorentz'"),
        (dict(curvature=0), r'curvature must be in \(0, inf\), got 0'),
        (dict(text_curvature=-1.0), r'curvature must be in \(0, inf\), got -1.0'),
        (dict(target='output'), "target must be one of .* got 'output'"),
        (
            dict(target='input', projections=('out',)),
            r"projections must not have 'out' .*got \('out',\)",
        ),
    ],
)
def test_bad_options_leave_the_model_as_it_was(options, message):
    clip = make_clip()
    with pytest.raises(ValueError, match=message):
        apply_hyperclip(clip, **{'block_size': 4, **options})
    assert all(p.requires_grad for p in clip.parameters())
    assert {n for n, _ in clip.named_parameters()} == {n for n, _ in make_clip().named_parameters()}


def test_bad_use():
    adapter = HyperCLIPAdapter(4)
    with pytest.raises(ValueError, match='not attached'):
        adapter.merge()
    clip = make_clip()
    adapter.attach(clip)
    with pytest.raises(ValueError, match='attached to a model already'):
        adapter.attach(make_clip())
    with pytest.raises(ValueError, match='has an adapter already'):
        apply_hyperclip(clip, 4)
    with pytest.raises(ValueError, match='is not merged'):
        adapter.unmerge()
    state = adapter.state_dict()
    with pytest.raises(ValueError, match='lacks .*nothing'):
        adapter.load_state_dict({**state, 'nothing': torch.zeros(1)})
    name = next(iter(state))
    with pytest.raises(ValueError, match=f'{name} must have the shape'):
        adapter.load_state_dict({**state, name: torch.zeros(1)})
    adapter.merge()
    with pytest.raises(ValueError, match='merged already'):
        adapter.merge()
    with pytest.raises(ValueError, match='unmerge it first'):
        adapter.load_state_dict(state)
    with pytest.raises(ValueError, match='no attention layer whose projections'):
        apply_hyperclip(nn.Linear(4, 4), 4)
    with pytest.raises(ValueError, match="it is a vision tower by itself.*got \\('text',\\)"):
        apply_hyperclip(nn.MultiheadAttention(4, 1), 4, towers=('text',))
    with pytest.raises(ValueError, match="space='euclidean' only"):
        apply_hyperclip(make_clip(), 4, target='input').merge()
