"""Models of all kinds by the exporters, compared with what PyTorch computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from hyper_mm.deploy import Exportable
from hyper_mm.layers import DenseCLIP, HierarchyMapper, LorentzVisionTransformer, apply_hyperclip
from tests.helpers.golden import of_max, rounding

ALL, BATCH = (0, 2, 3), (0,)
MAPPER = dict(num_leaves=8, num_levels=3, width=8, num_heads=2, hyp_dim=6)
UNET = dict(
    type='UNet',
    base_channels=4,
    num_stages=3,
    strides=(1, 1, 1),
    enc_num_convs=(1, 1, 1),
    dec_num_convs=(1, 1),
    downsamples=(True, True),
    enc_dilations=(1, 1, 1),
    dec_dilations=(1, 1),
    norm_cfg=dict(type='IN', affine=True),
)


class Function(nn.Module):
    """A method of a module, for exporters."""

    def __init__(self, module: nn.Module, function):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.function(self.module, x)


def vit(**options):
    module = LorentzVisionTransformer(16, 2, 2, image_size=(24, 24), patch_size=8, **options)
    return Function(module, lambda m, x: m(x).points[0])


def mapper(**options):
    return Function(
        HierarchyMapper(16, **MAPPER, **options), lambda m, x: m(x, m.pool(x)).levels + (m.pool(x),)
    )


def framework(name):
    pytest.importorskip(name)
    from mmengine.registry import init_default_scope

    from hyper_mm.registry import MODELS

    init_default_scope(name)
    return MODELS


def segmentor(backbone, channels, index, neck=None, **options):
    head = dict(
        type='FCNHead',
        in_channels=channels,
        in_index=index,
        channels=8,
        num_convs=1,
        num_classes=3,
        align_corners=False,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss'),
    )
    return framework('mmseg').build(
        dict(
            type='hyper_mm.EncoderDecoder',
            backbone=backbone,
            neck=neck,
            decode_head=head,
            test_cfg=dict(mode='whole'),
            **options,
        )
    )


def unet(fusion):
    neck = dict(
        type='hyper_mm.HiMapper',
        in_channels=(16, 8, 4),
        level=0,
        fusion=fusion,
        gate_init=0.3,
        **MAPPER,
    )
    head = dict(type='hyper_mm.BoundaryContrastHead', num_classes=3)
    return segmentor(UNET, 4, 2, neck, auxiliary_head=head)


def lorentz_segmentor():
    backbone = dict(
        type='hyper_mm.LorentzViT',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2),
        img_size=32,
        patch_size=8,
        out_type='featmap',
        output='logmap0',
    )
    return segmentor(backbone, 16, 0)


def classifier(backbone, channels, **neck):
    return framework('mmpretrain').build(
        dict(
            type='hyper_mm.ImageClassifier',
            backbone=backbone,
            neck=dict(type='hyper_mm.HiMapperPooling', in_channels=channels, **MAPPER, **neck),
            head=dict(type='LinearClsHead', in_channels=channels, num_classes=5),
        )
    )


def pooled():
    return classifier(dict(type='ResNet', depth=18, base_channels=8, stem_channels=8), 64)


def pooled_vit():
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    backbone = dict(type='VisionTransformer', arch=arch, img_size=32, patch_size=8, out_type='raw')
    return classifier(backbone, 16, num_prefix_tokens=1)


def prototypes():
    backbone_cfg = dict(UNET)
    from hyper_mm.models.heads.prototypical_head import PrototypicalHead

    head = PrototypicalHead()
    head.prototypes = torch.randn(2, 4)
    return Function(
        nn.ModuleList([framework('mmseg').build(backbone_cfg), head]), lambda m, x: m[1](m[0](x))
    )


def clip():
    open_clip = pytest.importorskip('open_clip')
    model = open_clip.model.CLIP(
        16,
        dict(image_size=32, layers=3, width=24, head_width=8, patch_size=8),
        dict(context_length=9, vocab_size=50, width=16, heads=2, layers=2),
    ).eval()
    adapter = apply_hyperclip(model, block_size=8)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    adapter.merge()
    return model


SQUARE = (2, 3, 32, 32)
OTHER = [(3, 3, 48, 40)]
MODELS = {
    'vit': (vit, (2, 3, 24, 24), [(3, 3, 24, 24), (1, 3, 37, 41)], ALL),
    'vit learned': (lambda: vit(positions='learned'), (2, 3, 24, 24), OTHER, ALL),
    'vit experts': (
        lambda: vit(experts=dict(num_experts=3, top_k=2)), (2, 3, 24, 24), OTHER, ALL
    ),
    'mapper': (mapper, (2, 12, 16), [(3, 20, 16)], (0, 1)),
    'mapper points': (
        lambda: mapper(points=True, competition=True), (2, 12, 16), [(3, 20, 16)], (0, 1)
    ),
    'neck token': (lambda: unet('token'), SQUARE, [(3, 3, 48, 32)], ALL),
    'neck nodes': (lambda: unet('nodes'), SQUARE, [(3, 3, 48, 32)], ALL),
    'neck assignment': (lambda: unet('assignment'), SQUARE, [(3, 3, 48, 32)], ALL),
    'lorentz segmentor': (lorentz_segmentor, SQUARE, OTHER, ALL),
    'pooling': (pooled, (2, 3, 64, 64), [(3, 3, 96, 64)], ALL),
    'pooling of tokens': (pooled_vit, SQUARE, [(3, 3, 32, 32)], BATCH),
    'prototypes': (prototypes, SQUARE, [(3, 3, 48, 32)], ALL),
    'clip': (
        lambda: Function(clip(), lambda m, x: m.encode_image(x, normalize=True)),
        SQUARE, [(3, 3, 32, 32)], BATCH,
    ),
    'clip dense': (
        lambda: DenseCLIP(clip().visual, taps=(0, 1)), SQUARE, [(3, 3, 32, 32), (3, 3, 48, 40)], ALL
    ),
}  # fmt: skip
every = pytest.mark.parametrize('name', list(MODELS))


def flat(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in flat(part)]


def in_float64(model: nn.Module) -> nn.Module:
    """A copy, with tensors that are in no state dict."""
    wide = copy.deepcopy(model).double()
    for module in wide.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(module, name, value.double())
    return wide


def compare(run, model, shapes):
    """Compares a function of images with a model.

    The order of sums differs. That is like a rounding of the inputs and weights of each layer, a
    few dozen times; what one such rounding changes is measured.
    """
    wide = in_float64(model)
    for shape in shapes:
        x = torch.randn(shape)
        with torch.no_grad():
            wanted = flat(model(x))
            given = x.double()
            arguments = [given, *wide.parameters()]
            limits = rounding(lambda given=given: flat(wide(given)), arguments, trials=4)
        found = flat(run(x))
        assert len(found) == len(wanted)
        for a, b, limit in zip(found, wanted, limits):
            assert a.shape == b.shape
            assert of_max(a, b) <= 64 * limit


def session_of(file):
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    return lambda x: [torch.from_numpy(y) for y in session.run(None, {'x': x.numpy()})]


def opset_of(file) -> int:
    import onnx

    return next(o.version for o in onnx.load(file).opset_import if not o.domain)


@every
@pytest.mark.filterwarnings('ignore')
def test_onnx_by_tracing(name, tmp_path):
    pytest.importorskip('onnx')
    build, shape, others, axes = MODELS[name]
    model, file = Exportable(build()), str(tmp_path / 'model.onnx')
    torch.onnx.export(
        model,
        (torch.randn(shape),),
        file,
        dynamo=False,
        opset_version=17,
        input_names=['x'],
        dynamic_axes={'x': {axis: f'axis{axis}' for axis in axes}},
    )
    assert opset_of(file) == 17
    compare(session_of(file), model, [shape, *others])


@pytest.mark.slow
@every
@pytest.mark.filterwarnings('ignore')
def test_onnx_by_torch_export(name, tmp_path):
    """PyTorch's own operators begin with set 18 there."""
    pytest.importorskip('onnxscript')
    build, shape, others, axes = MODELS[name]
    model, file = Exportable(build()), str(tmp_path / 'model.onnx')
    torch.onnx.export(
        model,
        (torch.randn(shape),),
        file,
        dynamo=True,
        opset_version=18,
        input_names=['x'],
        dynamic_shapes=({axis: torch.export.Dim.DYNAMIC for axis in axes},),
        verbose=False,
    )
    assert opset_of(file) == 18
    compare(session_of(file), model, [shape, *others])


@pytest.mark.slow
@every
@pytest.mark.filterwarnings('ignore')
def test_torch_export(name):
    build, shape, others, axes = MODELS[name]
    model = Exportable(build())
    dims = ({axis: torch.export.Dim.DYNAMIC for axis in axes},)
    program = torch.export.export(model, (torch.randn(shape),), dynamic_shapes=dims)
    compare(program.module(), model, [shape, *others])


def test_the_model_itself_stays_as_it_is():
    model = unet('token').train()
    names = [type(module).__module__ for module in model.modules()]
    wrapped = Exportable(model)
    assert [type(module).__module__ for module in model.modules()] == names and model.training
    assert not wrapped.training or not wrapped.model.training
    assert any(name.startswith('mmseg.models.utils') for name in names)
    stock = [m for m in wrapped.model.modules() if type(m).__name__ == 'Upsample']
    assert stock and all(isinstance(m, nn.Upsample) for m in stock)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(wrapped(x), model.eval()(x, mode='tensor'))
