"""Mixture of curvature experts."""

import pytest
import torch

from hyper_mm.layers import collect_losses
from hyper_mm.layers.lorentz.mice import MiCE
from hyper_mm.layers.lorentz.norm import LorentzResidual
from hyper_mm.ops import lorentz
from hyper_mm.ops.fused import to_ambient

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max

FILES = golden_files('helm_mice*.npz')
both = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
files = pytest.mark.parametrize('file', FILES)
CASES = ['paper', 'paper_nobias', 'paper_sig', 'paper_sharedc', 'official', 'official_sig']


def mice_of(g, dtype, case):
    official = case.startswith('official')
    num, hidden, columns = g['experts.W1'].shape
    layer = MiCE(
        columns - 1,
        hidden,
        num,
        int(g['topk']),
        shared_curvature=None if official or case == 'paper_sharedc' else 1.0,
        score='sigmoid' if case.endswith('sig') else 'softmax',
        renormalize=case != 'official',
        combine='sequential' if official else 'centroid',
        balance_weight=1.0,
    ).to(dtype)
    state = {'gate': g['gate_W'], 'bias': 0 * g['gate_bias']}
    if case != 'paper_nobias':
        state['bias'] = g['gate_bias']
    for n in '123':
        state |= {f'w{n}': g[f'experts.W{n}'], f'b{n}': g[f'experts.b{n}']}
        state[f'shared.0.w{n}.weight'] = g[f'shared.W{n}']
        state[f'shared.0.w{n}.bias'] = g[f'shared.b{n}']
    state |= {f'curvatures.{i}.log': c.log() for i, c in enumerate(g['c_experts'])}
    if layer.shared_curvatures:
        state['shared_curvatures.0.log'] = g['c_shared'].log()
    if official:
        assert g.exact(f'{case}.fold_scale') == 2
        state['out_weight'] = g[f'{case}.out_w']
        state['out_log_scale'] = g[f'{case}.out_logscale']
    layer.load_state_dict(state)
    leaves = {'gate_W': layer.gate}
    if official:
        leaves |= {'out_w': layer.out_weight, 'out_logscale': layer.out_log_scale}
    for n in '123':
        leaves |= {f'experts.W{n}': getattr(layer, f'w{n}')}
        leaves |= {f'experts.b{n}': getattr(layer, f'b{n}')}
        leaves |= {f'shared.W{n}': getattr(layer.shared[0], f'w{n}').weight}
    return layer, leaves


@files
@both
@pytest.mark.parametrize('case', CASES)
def test_golden_mice(file, dtype, case):
    g, double = Golden(file, dtype), dtype == torch.float64
    layer, weights = mice_of(g, dtype, case)
    x, c = g['x'].requires_grad_(), g['c'].requires_grad_()
    routing = layer.route(x)
    assert absolute(routing.scores, g.exact(f'{case}.scores')) < (1e-9 if double else 3e-6)
    if case.startswith('paper'):
        assert torch.equal(routing.indices, g[f'{case}.indices'])
        assert absolute(routing.gates, g.exact(f'{case}.gates')) < (1e-9 if double else 3e-6)
    else:
        assert torch.equal(routing.indices.sort(-1).values, g[f'{case}.indices'].sort(-1).values)
        assert torch.equal(routing.counts, g[f'{case}.counts'])
    y = layer(x, c)
    assert absolute(y, g.exact(f'{case}.y')) < (1e-9 if double else 6e-6)
    if case == 'paper':
        total = LorentzResidual().to(dtype)(x, y, c)
        assert absolute(total, g.exact('paper.y_residual')) < (1e-9 if double else 3e-6)
    leaves = {f'{case}.grad_{k}': v for k, v in weights.items()}
    full = ('.grad_gate_W', '.grad_out_w', '.grad_out_logscale')
    if case in ('paper_nobias', 'paper_sig', 'paper_sharedc'):
        leaves = {k: v for k, v in leaves.items() if k.endswith(full)}
    elif case != 'paper':  # the file has no gradients of the biases there
        leaves = {k: v for k, v in leaves.items() if '.grad_experts.b' not in k}
    leaves |= {f'{case}.grad_x': x, f'{case}.grad_c': c}
    logs = {'c_experts': layer.curvatures, 'c_shared': layer.shared_curvatures}
    logs = {k: [m.log for m in v] for k, v in logs.items() if len(v)}
    tensors = [*leaves.values(), *(p for v in logs.values() for p in v)]
    grads = list(torch.autograd.grad((y * g['cot']).sum(), tensors))
    for key in leaves:
        limit = 1e-9 if double else 12e-5 if key.endswith('_c') else 6e-6
        assert of_max(grads.pop(0), g.exact(key)) < limit, key
    for key, parts in logs.items():  # d/dc = d/dlog c / c
        found = torch.cat([grads.pop(0) for _ in parts]) / g[key]
        assert of_max(found, g.exact(f'{case}.grad_{key}').view(-1)) < (1e-9 if double else 6e-6)


@files
@both
def test_golden_balance(file, dtype):
    g = Golden(file, dtype)
    layer, _ = mice_of(g, dtype, 'official')
    with collect_losses() as scope:
        routing = layer.route(g['x'])
    limit = 1e-9 if dtype == torch.float64 else 3e-6
    fraction = routing.counts.double() * layer.num_experts / routing.indices.numel()
    share = routing.scores / routing.scores.sum(-1, keepdim=True)
    assert absolute(fraction, g.exact('balance_f')) < limit
    assert absolute(share.mean(0), g.exact('balance_P')) < limit
    assert absolute(scope.total()['loss_balance'], g.exact('balance_sum')) < limit
    layer.update_bias(0.005)
    assert absolute(layer.bias, g.exact('bias_updated')) < limit
    layer.update_bias(0.005)  # no tokens since
    assert absolute(layer.bias, g.exact('bias_updated')) < limit


@pytest.mark.parametrize(('shared', 'top_k'), [(0, 1), (0, 3), (2, 2)])
def test_any_number_of_shared_experts(shared, top_k):
    layer = MiCE(11, 9, 4, top_k, shared).double()
    x, c = torch.randn(7, 11, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    routing, points = layer.route(x), to_ambient(x, c)
    routed = layer.experts(points, c, routing.indices, routing.counts)
    owns = [own() for own in layer.shared_curvatures]
    parts = [ffn.map(points, c, own) for ffn, own in zip(layer.shared, owns)]
    parts = torch.stack([*parts, *routed.unbind(1)], 1)
    weights = torch.cat([routing.gates.new_ones(7, shared), routing.gates], 1)
    assert absolute(layer(x, c), lorentz.centroid(parts, weights, c)) < 1e-11
    for ffn, own, part in zip(layer.shared, owns, parts.unbind(1)):  # the printed form
        inside = ffn(lorentz.rescale(x, c, own), own)
        assert absolute(part, lorentz.rescale(inside, own, c)) < 1e-11


def test_curvatures_span_the_range_and_learn():
    layer = MiCE(11, 9, 4)
    found = [curvature().item() for curvature in layer.curvatures]
    assert found == pytest.approx([0.1, 0.1 + 1.9 / 3, 0.1 + 3.8 / 3, 2.0])
    layer(torch.randn(2, 30, 11), 1.0).square().sum().backward()
    assert all(curvature.log.grad.abs() > 0 for curvature in layer.curvatures)
    assert all(p.grad is not None for p in layer.parameters())
    fixed = MiCE(11, 9, 4, learn_curvature=False)
    assert not any('curvatures' in name for name, _ in fixed.named_parameters())


@pytest.mark.parametrize('combine', ['centroid', 'sequential'])
def test_bfloat16_autocast_has_finite_gradients(combine):
    layer, x = MiCE(11, 9, combine=combine), (20 * torch.randn(1, 9, 11)).requires_grad_()
    with torch.no_grad():
        x[0, 0] = 0
    wanted = layer.route(x[0]).indices
    with torch.autocast('cpu', torch.bfloat16):
        y = layer(x, 1.0)
        assert torch.equal(layer.route(x[0]).indices, wanted)  # never chosen in half precision
    y.square().sum().backward()
    assert y.dtype == torch.float32 and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize(
    'wrong',
    [
        {'top_k': 5},
        {'top_k': 0},
        {'score': 'tanh'},
        {'combine': 'sum'},
        {'num_shared': -1},
        {'num_shared': 2, 'combine': 'sequential'},
        {'curvatures': (-0.1, 2.0)},
        {'curvatures': (1.0, 2.0, 3.0)},
        {'balance_weight': float('nan')},
        {'shared_curvature': 0.0},
        {'balance_weight': -1.0},
    ],
)
def test_bad_input(wrong):
    with pytest.raises(ValueError, match='must be'):
        MiCE(11, 9, **wrong)


def pair_of(**options):
    """A mixture of curvatures 0.1 to 2, and one of curvature 1 with the tensors of the theorem."""
    mixed = MiCE(11, 9, 4, curvatures=(0.1, 2.0), shared_curvature=0.3, **options).double()
    plain = dict(curvatures=(1.0, 1.0), shared_curvature=1.0, learn_curvature=False)
    constant = MiCE(11, 9, 4, **plain, **options).double()
    with torch.no_grad():
        for parameter in mixed.parameters():
            if parameter.ndim > 1 or parameter.shape[-1] > 1:  # biases as well, not curvatures
                torch.nn.init.normal_(parameter, std=0.3)
        state = {k: v for k, v in mixed.state_dict().items() if 'curvatures' not in k}
        constant.load_state_dict(state, strict=False)
        for expert, own in enumerate(mixed.curvatures):
            scale = own().rsqrt()
            constant.w1[expert] *= scale
            constant.b2[expert] /= scale
            constant.b3[expert] /= scale
        scale, shared = mixed.shared_curvatures[0]().rsqrt(), constant.shared[0]
        shared.w1.weight *= scale
        shared.w2.bias /= scale
        shared.w3.bias /= scale
    return mixed, constant


def test_a_mixture_of_curvatures_is_one_of_a_constant_curvature():
    """The theorem of the class: sqrt(c / c_i) goes into w1, its inverse into b2 and b3."""
    mixed, constant = pair_of()
    x = torch.randn(200, 11, dtype=torch.float64)
    found, wanted = constant(x, 1.0), mixed(x, 1.0)
    assert wanted.abs().max() > 1  # nothing is compared with zero
    eps = torch.finfo(torch.float64).eps
    assert (found - wanted).abs().max() < 1000 * eps * wanted.abs().max()


@pytest.mark.parametrize('options', [dict(transfer='tangent'), dict(gates='distance')])
def test_a_curvature_that_matters(options):
    mixed, constant = pair_of(**options)
    x = torch.randn(200, 11, dtype=torch.float64)
    wanted = mixed(x, 1.0)
    assert (constant(x, 1.0) - wanted).norm() > 1e-2 * wanted.norm()


def test_transfer_by_tangent_vectors():
    layer = MiCE(11, 9, 3, 2, transfer='tangent').double()
    x, c = torch.randn(7, 11, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    routing, points = layer.route(x), to_ambient(x, c)
    found = layer.experts(points, c, routing.indices, routing.counts)
    for token in range(7):
        for place, expert in enumerate(routing.indices[token].tolist()):
            own = layer.curvatures[expert]()
            y = lorentz.expmap0(lorentz.logmap0(x[token], c), own)
            y = to_ambient(y, own)
            hidden = torch.nn.functional.silu(layer.w1[expert] @ y + layer.b1[expert])
            hidden = hidden * (layer.w3[expert] @ y + layer.b3[expert])
            y = layer.w2[expert] @ to_ambient(hidden, own) + layer.b2[expert]
            y = lorentz.expmap0(lorentz.logmap0(y, own), c)
            assert absolute(found[token, place], y) < 1e-12
    # at equal curvatures both ways are one
    equal = dict(curvatures=(0.7, 0.7), shared_curvature=0.7)
    tangent, homothety = (
        MiCE(11, 9, transfer=kind, **equal).double() for kind in ('tangent', 'homothety')
    )
    homothety.load_state_dict(tangent.state_dict())
    c = tangent.curvatures[0]()  # stored in single precision: not quite 0.7
    assert absolute(tangent(x, c), homothety(x, c)) < 1e-12


def test_gates_by_distance():
    layer = MiCE(11, 9, gates='distance').double()
    x = torch.randn(7, 11, dtype=torch.float64)
    distances = layer.distances(x, 0.7)
    for expert, own in enumerate(layer.curvatures):
        token = lorentz.expmap0(lorentz.logmap0(x, 0.7), own())
        place = lorentz.expmap0(layer.gate[expert], own())
        assert absolute(distances[:, expert], lorentz.dist(token, place, own())) < 1e-9
    routing = layer.route(x, logits=-distances)
    assert torch.equal(routing.scores, (-distances).softmax(-1))
    layer(x, 0.7).square().sum().backward()
    assert all(own.log.grad.abs() > 0 for own in layer.curvatures) and layer.gate.grad.any()


@pytest.mark.slow
def test_compiles_without_breaks():
    """By blocks of tokens, whose number no count decides: not all tokens by all experts."""
    torch.manual_seed(0)
    module = MiCE(11, 9, 4, balance_weight=0).double()  # a loss is handed over by a break
    x = torch.randn(2, 9, 11, dtype=torch.float64)
    results = []
    for function in (module, torch.compile(module, backend='aot_eager', fullgraph=True)):
        module.zero_grad()
        y = function(x, 1.0)
        y.square().sum().backward()
        results.append((y.detach(), [p.grad.clone() for p in module.parameters()]))
    torch.testing.assert_close(*results)
