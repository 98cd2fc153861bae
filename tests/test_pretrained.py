"""Public weights load completely, in every config that starts from some.

The network of timm or torchvision gets random weights, is saved in the form of the public file, and
loaded by the config's own way, with the address replaced by the path.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip('mmseg')
pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
timm = pytest.importorskip('timm')
torchvision = pytest.importorskip('torchvision')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS, init_default_scope  # noqa: E402
from mmengine.runner import load_checkpoint  # noqa: E402
from mmengine.runner.checkpoint import CheckpointLoader  # noqa: E402

import hyper_mm.registry  # noqa: E402, F401

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
pytestmark = [pytest.mark.mmseg, pytest.mark.mmdet, pytest.mark.mmpretrain]


def randomized(network: nn.Module) -> nn.Module:
    """Random weights everywhere: biases and norms, too, are of use."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith('running_var'):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point() and 'attn_mask' not in name:
                value.add_(0.02 * torch.randn_like(value))
    return network.eval()


def renamed(state: dict[str, Tensor], *pairs: tuple[str, str]) -> dict[str, Tensor]:
    found = {}
    for name, value in state.items():
        for pattern, new in pairs:
            name = re.sub(pattern, new, name)
        found[name] = value
    return found


DEIT = (
    (r'^norm\.', 'ln1.'),
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.', 'layers.'),
    (r'\.norm(\d)\.', r'.ln\1.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
    (r'^(?!head)', 'backbone.'),
    (r'^head', 'head.layers.head'),
)


def mmpretrain_deit(network: nn.Module) -> dict:
    return dict(meta={}, state_dict=renamed(network.state_dict(), *DEIT))


def official_swin(network: nn.Module) -> dict:
    """Microsoft's names: timm has the merging of patches a stage later."""

    def stage_before(match: re.Match) -> str:
        return f'layers.{int(match[1]) - 1}.downsample.'

    names = (r'layers\.(\d)\.downsample\.', stage_before), (r'^head\.fc\.', 'head.')
    return dict(model=renamed(network.state_dict(), *names))


def converted_swin(network: nn.Module) -> dict[str, Tensor]:
    """OpenMMLab's names, by the function with which mmdet reads Microsoft's files."""
    from mmdet.models.backbones.swin import swin_converter

    return renamed(swin_converter(official_swin(network)['model']), (r'^backbone\.', ''))


def mmpretrain_swin(network: nn.Module) -> dict:
    state = renamed(converted_swin(network), (r'^norm\.', 'norm3.'), ('^', 'backbone.'))
    head = {f'head.{name}': value for name, value in network.head.state_dict().items()}
    return dict(state_dict=state | head)


def mmpretrain_resnet(network: nn.Module) -> dict:
    names = (r'^(?!fc)', 'backbone.'), (r'^fc\.', 'head.fc.')
    return dict(state_dict=renamed(network.state_dict(), *names))


def deep_stem(network: nn.Module) -> dict:
    """timm's ResNet-50-C under the names of ResNetV1c."""
    names = (r'^conv1\.', 'stem.'), (r'^bn1\.', 'stem.7.')
    return dict(state_dict=renamed(network.state_dict(), *names))


def in_order(network: nn.Module, model: nn.Module) -> dict:
    """Weights under the names of a model whose layers are in the same order."""
    pairs = zip(model.state_dict().items(), network.state_dict().values(), strict=True)
    state = {}
    for (name, own), value in pairs:
        assert own.shape == value.shape, name
        state[name] = value
    return dict(state_dict=state)


def load(model: nn.Module, cfg: Config, path: Path) -> tuple[set[str], set[str]]:
    """Loads as a run does; returns the keys that were missing, and those that had no place."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float('nan'))
    if cfg.get('load_from'):
        load_checkpoint(model, str(path), map_location='cpu')
        address, prefix = str(path), ''
    else:
        place = 'backbone.' if hasattr(model, 'backbone') else ''
        backbone = model.backbone if place else model
        backbone.init_weights()
        address, prefix = backbone.init_cfg['checkpoint'], backbone.init_cfg.get('prefix', '')
        model = backbone
    missing = {name for name, p in model.named_parameters() if p.isnan().any()}
    state = CheckpointLoader.load_checkpoint(address, 'cpu')
    state = state.get('state_dict', state.get('model', state))
    given = {k[len(prefix) :] for k in state if k.startswith(prefix)}
    return missing, given - model.state_dict().keys()


def in_evaluation(cfg: dict) -> nn.Module:
    model = MODELS.build(cfg)
    model.eval()  # returns nothing in mmseg's ViT
    return model


def build(name: str, path: Path, **backbone: object) -> tuple[nn.Module, Config]:
    """The model of a config; the backbone alone where that has the weights."""
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.update(backbone)
    if cfg.get('load_from'):
        return in_evaluation(cfg.model), cfg
    init = cfg.model.backbone.init_cfg
    assert init.type == 'Pretrained'
    scheme = 'timm-vit+' if init.checkpoint.startswith('timm-vit+') else ''
    init.checkpoint = scheme + str(path)
    return in_evaluation(cfg.model.backbone), cfg


def assert_equal(found: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of float32 through a network of some fifty layers."""
    assert found.shape == expected.shape
    assert (found - expected).norm() < 1e-5 * expected.norm()


def images(size: int = 224) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


SLOW = pytest.mark.slow
SIZES = dict(t='tiny', s='small', b='base')
PLAIN = [('t', ''), pytest.param('s', '', marks=SLOW), pytest.param('b', '', marks=SLOW)]
ALL = PLAIN + [('t', '-distilled'), *(pytest.param(s, '-distilled', marks=SLOW) for s in 'sb')]


def deit(size: str, distilled: str = '') -> nn.Module:
    kind = '_distilled' if distilled else ''
    name = f'deit_{SIZES[size]}{kind}_patch16_224'
    return randomized(timm.create_model(name, pretrained=False))


ON_STOCK_BASE = 'himapper/himapper_deit-s_ade20k_mmseg-base.py'


@pytest.mark.parametrize(
    'size, name',
    [
        pytest.param(s, f'himapper/{ours}deit-{s}_ade20k.py', marks=() if s == 't' else SLOW)
        for ours in ('', 'himapper_')
        for s in 'tsb'
    ]
    + [pytest.param('s', ON_STOCK_BASE, marks=SLOW)],
)
def test_deit_of_mmseg(size, name, tmp_path):
    network = deit(size)
    torch.save(dict(model=network.state_dict()), tmp_path / 'deit.pth')
    # the run interpolates positions to the crop: here they are compared as they are
    options = dict(img_size=(224, 224), out_indices=11)
    model, cfg = build(name, tmp_path / 'deit.pth', **options)
    missing, unexpected = load(model, cfg, tmp_path / 'deit.pth')
    assert not missing
    assert unexpected == {'ln1.weight', 'ln1.bias'}  # the levels are taken before the last norm
    with torch.no_grad():
        (found,) = model(images())
        found = found[0] if isinstance(found, (tuple, list)) else found
        expected = network.norm(found.flatten(2).mT)
        assert_equal(expected, network.forward_features(images())[:, 1:])


@pytest.mark.parametrize('size, distilled', ALL)
def test_deit_of_mmpretrain(size, distilled, tmp_path):
    network = deit(size, distilled)
    torch.save(mmpretrain_deit(network), tmp_path / 'deit.pth')
    name = f'himapper/deit-{size}{distilled}_imagenet.py'
    model, cfg = build(name, tmp_path / 'deit.pth')
    assert load(model, cfg, tmp_path / 'deit.pth') == (set(), set())
    with torch.no_grad():
        assert_equal(model(images()), network(images()))


@pytest.mark.parametrize('distilled', ['', '-distilled'])
def test_hi_mapper_starts_from_the_weights_of_deit(distilled, tmp_path):
    network = deit('t', distilled)
    torch.save(mmpretrain_deit(network), tmp_path / 'deit.pth')
    cfg = Config.fromfile(CONFIGS / f'himapper/himapper_deit-t{distilled}_imagenet.py')
    init_default_scope('mmpretrain')
    cfg.model.neck.zero_init_out = True
    model = in_evaluation(cfg.model)
    before = {n: p.clone() for n, p in model.named_parameters() if n.startswith('neck.')}
    load_checkpoint(model, str(tmp_path / 'deit.pth'), map_location='cpu')
    with torch.no_grad():
        assert_equal(model(images(), mode='tensor'), network(images()))
    assert all(torch.equal(model.get_parameter(n), p) for n, p in before.items())


@pytest.mark.parametrize('size', ['t', pytest.param('s', marks=SLOW)])
def test_deit_of_mmdet(size, tmp_path):
    network = deit(size)
    torch.save(mmpretrain_deit(network), tmp_path / 'deit.pth')
    model, cfg = build(f'himapper/deit-{size}_coco.py', tmp_path / 'deit.pth')
    assert load(model, cfg, tmp_path / 'deit.pth') == (set(), set())
    with torch.no_grad():
        (found,) = model(images())
        assert_equal(found.flatten(2).mT, network.forward_features(images())[:, 1:])


def swin(size: str, image: int = 224) -> nn.Module:
    name = f'swin_{SIZES[size]}_patch4_window7_224'
    return randomized(timm.create_model(name, pretrained=False, img_size=image))


@pytest.mark.parametrize(
    'name, form',
    [pytest.param('coco', official_swin, marks=SLOW), ('ade20k', converted_swin)],
)
def test_swin_of_dense_models(name, form, tmp_path):
    # at 224 the last map is one window, which dense models shift and classifiers do not
    size = 448
    network = swin('t', size)
    torch.save(form(network), tmp_path / 'swin.pth')
    model, cfg = build(f'himapper/swin-t_{name}.py', tmp_path / 'swin.pth')
    missing, _ = load(model, cfg, tmp_path / 'swin.pth')
    # each level has a norm of its own, which the classifier has not
    assert missing == {f'norm{i}.{part}' for i in range(4) for part in ('weight', 'bias')}
    for i in range(4):
        getattr(model, f'norm{i}').reset_parameters()
    model.norm3.load_state_dict(network.norm.state_dict())
    with torch.no_grad():
        x = images(size)
        assert_equal(model(x)[-1].movedim(1, -1), network.forward_features(x))


@pytest.mark.parametrize('size', ['t', pytest.param('s', marks=SLOW)])
def test_swin_of_mmpretrain(size, tmp_path):
    network = swin(size)
    torch.save(mmpretrain_swin(network), tmp_path / 'swin.pth')
    model, cfg = build(f'himapper/swin-{size}_imagenet.py', tmp_path / 'swin.pth')
    assert load(model, cfg, tmp_path / 'swin.pth') == (set(), set())
    with torch.no_grad():
        assert_equal(model(images()), network(images()))


def test_resnet_of_mmpretrain(tmp_path):
    network = randomized(torchvision.models.resnet50())
    torch.save(mmpretrain_resnet(network), tmp_path / 'resnet.pth')
    model, cfg = build('himapper/resnet-50_imagenet.py', tmp_path / 'resnet.pth')
    assert load(model, cfg, tmp_path / 'resnet.pth') == (set(), set())
    with torch.no_grad():
        assert_equal(model(images(64)), network(images(64)))


def test_resnet_with_a_deep_stem(tmp_path):
    network = randomized(timm.create_model('resnet50c', pretrained=False))
    torch.save(deep_stem(network), tmp_path / 'resnet.pth')
    cfg = Config.fromfile(CONFIGS / 'metaseg/protonet_resnet-50_pascal5i.py')
    init_default_scope('mmseg')
    backbone = cfg.model.model.backbone
    assert backbone.init_cfg.checkpoint == 'open-mmlab://resnet50_v1c'
    backbone.init_cfg.checkpoint = str(tmp_path / 'resnet.pth')
    backbone.update(dilations=(1, 1, 1, 1), strides=(1, 2, 2, 2), out_indices=(3,))
    model = in_evaluation(backbone)
    missing, unexpected = load(model, cfg, tmp_path / 'resnet.pth')
    assert not missing and unexpected == {'fc.weight', 'fc.bias'}
    with torch.no_grad():
        assert_equal(model(images(64))[-1], network.forward_features(images(64)))


def test_efficientnet_of_mmpretrain(tmp_path):
    network = randomized(timm.create_model('tf_efficientnet_b4', pretrained=False))
    model, cfg = build('himapper/efficientnet-b4_imagenet.py', tmp_path / 'net.pth')
    torch.save(in_order(network, model), tmp_path / 'net.pth')
    assert load(model, cfg, tmp_path / 'net.pth') == (set(), set())
    with torch.no_grad():
        assert_equal(model(images(96)), network(images(96)))


def test_every_config_with_public_weights_is_here():
    """A new one needs a row above."""
    address = re.compile(r'https?://|open-mmlab://|timm-vit\+')
    found = {
        path.relative_to(CONFIGS).as_posix()
        for path in CONFIGS.rglob('*.py')
        if any(address.search(line.split('#')[0]) for line in path.read_text().splitlines())
    }
    here = {f'himapper/deit-{s}_ade20k.py' for s in 'tsb'}
    here |= {f'himapper/deit-{s}{d}_imagenet.py' for s in 'tsb' for d in ('', '-distilled')}
    here |= {f'himapper/deit-{s}_coco.py' for s in 'ts'}
    here |= {f'himapper/swin-{name}.py' for name in ('t_coco', 't_ade20k')}
    here |= {f'himapper/swin-{s}_imagenet.py' for s in 'ts'}
    here |= {f'himapper/{n}_imagenet.py' for n in ('resnet-50', 'efficientnet-b4')}
    here |= {'metaseg/protonet_resnet-50_pascal5i.py', ON_STOCK_BASE}
    assert found == here
