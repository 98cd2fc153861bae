"""LorentzViT as a backbone, and Hi-Mapper on its points."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

from hyper_mm.engine.hooks.moe_balance_hook import MoEBalanceHook
from hyper_mm.layers.lorentz.norm import LorentzResidual
from hyper_mm.layers.lorentz.routed_experts import RoutedExperts
from hyper_mm.models import LorentzViT
from hyper_mm.ops import lorentz
from hyper_mm.registry import MODELS
from tests.helpers.losses import run

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2)
EXPERTS = dict(num_experts=3, top_k=2, balance_weight=1.0)


def backbone(**options) -> LorentzViT:
    return MODELS.build(
        {'type': 'hyper_mm.LorentzViT', 'arch': ARCH, 'img_size': 32, 'patch_size': 8, **options}
    )


def images(height=32, width=32, batch=2):
    return torch.randn(batch, 3, height, width)


SHAPES = {
    'cls_token': (2, 16),
    'avg_featmap': (2, 16),
    'featmap': (2, 16, 3, 5),
    'raw': (2, 16, 16),
}


class TestOutput:
    @pytest.mark.parametrize('out_type, shape', SHAPES.items())
    def test_types(self, out_type, shape):
        out = backbone(out_type=out_type, out_indices=(0, 2))(images(24, 36))
        assert isinstance(out, tuple) and [x.shape for x in out] == [shape, shape]
        assert all(x.is_contiguous() for x in out) or out_type == 'cls_token'

    def test_maps_keep_the_layout(self):
        module = backbone(out_type='featmap').eval()
        raw = backbone(out_type='raw').eval()
        raw.load_state_dict(module.state_dict())
        x = images(16, 24)
        tokens = raw(x)[0][:, 1:]
        torch.testing.assert_close(module(x)[0][0, :, 1, 2], tokens[0, 5])

    @pytest.mark.parametrize('out_type', SHAPES)
    def test_parts_of_a_point(self, out_type):
        c, x = 0.5, images()
        kinds = {}
        module = backbone(out_type=out_type, curvature=dict(init=c)).eval()
        for output in ('space', 'logmap0', 'lorentz'):
            module.output = output
            kinds[output] = module(x)[0]
        dim = 1 if out_type == 'featmap' else -1
        kinds = {name: t.movedim(dim, -1) for name, t in kinds.items()}
        space = kinds['space']
        torch.testing.assert_close(kinds['logmap0'], lorentz.logmap0(space, c))
        torch.testing.assert_close(kinds['lorentz'][..., 1:], space)
        inner = 2 * kinds['lorentz'][..., 0].square() - kinds['lorentz'].square().sum(-1)
        torch.testing.assert_close(inner, torch.full_like(inner, 1 / c), rtol=1e-4, atol=1e-4)

    def test_average_is_the_centroid(self):
        module, x = backbone(out_type='avg_featmap', final_norm=False).eval(), images()
        raw = backbone(out_type='raw', final_norm=False).eval()
        raw.load_state_dict(module.state_dict())
        torch.testing.assert_close(module(x)[0], lorentz.centroid(raw(x)[0][:, 1:]))


class TestTraining:
    def test_sizes_are_those_of_deit(self):
        for name, millions in dict(tiny=5.52, small=21.67, base=85.80).items():
            with torch.device('meta'):
                module = LorentzViT(name)
            count = sum(p.numel() for p in module.parameters()) / 1e6
            assert abs(count - millions) < 0.01 * millions

    @pytest.mark.parametrize('stages', [-1, 0, 2, 3])
    def test_frozen_stages(self, stages):
        module = backbone(frozen_stages=stages, drop_path_rate=0.5, positions='learned').train()
        frozen = {n for n, p in module.named_parameters() if not p.requires_grad}
        parts = {name.split('.')[1] for name in frozen}
        assert parts == (
            set() if stages < 0 else {'embedding', 'blocks'} if stages else {'embedding'}
        )
        modes = [block.training for block in module.vit.blocks]
        assert modes == [i >= stages for i in range(3)]
        module(images())[0].sum().backward()
        assert all(p.grad is None for n, p in module.named_parameters() if n in frozen)

    def test_balance_loss_and_curvatures_are_published(self):
        module = backbone(experts=EXPERTS, curvature=dict(learnable=True))
        _, found = run(module, images())
        assert set(found) == {
            'loss_balance',
            'lorentz_vit/curvature',
            'lorentz_vit/lowest_curvature',
            'lorentz_vit/highest_curvature',
        }
        assert found['loss_balance'] > 1.5  # two blocks, at least 1 each where loads are equal
        assert found['lorentz_vit/lowest_curvature'] == pytest.approx(0.1)
        assert not run(module.eval(), images())[1]

    def test_plain_one_publishes_nothing(self):
        assert run(backbone(), images())[1] == {}

    def test_checkpoint_of_another_size(self, tmp_path):
        large = backbone(img_size=64, positions='learned')
        state = {f'backbone.{k}': v for k, v in large.state_dict().items()}
        torch.save(dict(state_dict=state), tmp_path / 'a.pth')
        init = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix='backbone.')
        small = backbone(positions='learned', init_cfg=init)
        small.init_weights()
        weight = large.vit.blocks[1].attention.qkv.weight
        torch.testing.assert_close(small.vit.blocks[1].attention.qkv.weight, weight)
        assert small.vit.embedding.pos_embed.std() < large.vit.embedding.pos_embed.std()


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch='huge'), "arch must be one of .*'base', 'small', 'tiny'.*, got 'huge'"),
        (dict(arch=dict(embed_dims=16)), r"arch must have .*, got \['embed_dims'\]"),
        (dict(arch=dict(width=16, **ARCH)), 'arch must have'),
        (dict(out_type='map'), "out_type must be one of .*, got 'map'"),
        (dict(output='time'), "output must be one of .*, got 'time'"),
        (dict(with_cls_token=False), "out_type='cls_token' needs with_cls_token=True"),
        (dict(frozen_stages=4), 'frozen_stages must be -1 to 3, got 4'),
        (dict(out_indices=5), 'out_indices must be ascending indices of the 3 blocks'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        backbone(**options)


# in models


@pytest.mark.mmpretrain
@pytest.mark.parametrize(
    'out_type, head', [('cls_token', 'VisionTransformer'), ('avg_featmap', 'Linear')]
)
def test_classifier(out_type, head):
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample

    init_default_scope('mmpretrain')
    model = MODELS.build(
        dict(
            type='hyper_mm.ImageClassifier',
            backbone=dict(
                type='hyper_mm.LorentzViT',
                arch=ARCH,
                patch_size=8,
                out_type=out_type,
                experts=EXPERTS,
            ),
            head=dict(type=f'{head}ClsHead', in_channels=16, num_classes=4),
            data_preprocessor=dict(num_classes=4, mean=[120.0] * 3, std=[60.0] * 3),
        )
    )
    model.init_weights()
    samples = [DataSample().set_gt_label(i % 4) for i in range(4)]
    data = dict(inputs=torch.randint(256, (4, 3, 32, 32)), data_samples=samples)
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    assert 'loss_balance' in losses
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
    first = None
    for _ in range(8):
        step = model.train_step(data, optimizer)
        first = first or step['loss']
    assert step['loss'] < first
    predictions = model.eval().test_step(data)
    assert len(predictions) == 4 and predictions[0].pred_score.isfinite().all()


def test_balance_hook_finds_the_experts():
    class Runner:
        model = backbone(experts=EXPERTS)

        class optim_wrapper:
            should_update = staticmethod(lambda: True)

    Runner.model(images())
    MoEBalanceHook(0.1).after_train_iter(Runner, 0)
    experts = [m for m in Runner.model.modules() if isinstance(m, RoutedExperts)]
    assert len(experts) == 2 and all(m.bias.isfinite().all() for m in experts)
    assert any((m.bias != 0).any() for m in experts)


@pytest.mark.mmseg
@pytest.mark.parametrize('points', [False, True])
def test_segmentor_with_hi_mapper(points):
    pytest.importorskip('mmseg')
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    init_default_scope('mmseg')
    model = MODELS.build(
        dict(
            type='hyper_mm.EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', size=(32, 32), mean=[120.0] * 3, std=[60.0] * 3
            ),
            backbone=dict(
                type='hyper_mm.LorentzViT',
                arch=ARCH,
                patch_size=8,
                out_type='featmap',
                out_indices=(0, 2),
            ),
            neck=dict(
                type='hyper_mm.HiMapper',
                in_channels=16,
                num_leaves=8,
                num_levels=3,
                width=8,
                num_heads=2,
                hyp_dim=6,
                gate_init=0.1,
                points=points,
            ),
            decode_head=dict(
                type='FCNHead',
                in_channels=16,
                in_index=1,
                channels=8,
                num_convs=1,
                num_classes=3,
                align_corners=False,
                norm_cfg=dict(type='BN'),
                loss_decode=dict(type='CrossEntropyLoss'),
            ),
            test_cfg=dict(mode='whole'),
        )
    )
    samples = []
    for _ in range(2):
        labels = PixelData(data=torch.randint(3, (1, 32, 32)))
        samples.append(SegDataSample(gt_sem_seg=labels, metainfo=dict(img_shape=(32, 32))))
    data = dict(inputs=[torch.randint(256, (3, 32, 32)) for _ in range(2)], data_samples=samples)
    data = model.data_preprocessor(data, True)
    losses = model(**data, mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    used = [p.grad for p in model.backbone.vit.blocks.parameters() if p.grad is not None]
    assert used and all(g.isfinite().all() for g in used)
    assert losses['loss_hier_cont'].isfinite()
    assert hasattr(model.neck.mapper.lift, 'alpha') != points
    assert model.neck.mapper.lift.curvature.learnable != points


@pytest.mark.mmdet
def test_feature_pyramid():
    neck = MODELS.build(dict(type='hyper_mm.SimpleFeaturePyramid', in_channels=16, out_channels=8))
    levels = neck(backbone(out_type='featmap')(images(64, 48)))
    assert [x.shape[-2:] for x in levels[:4]] == [(32, 24), (16, 12), (8, 6), (4, 3)]


@pytest.mark.mmpretrain
class TestToolsOfMmpretrain:
    """What users of mmpretrain's own vision transformer do with a classifier."""

    def classifier(self, kind='hyper_mm.LorentzViT', **options):
        pytest.importorskip('mmpretrain')
        init_default_scope('mmpretrain')
        arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
        cfg = dict(
            type='hyper_mm.ImageClassifier',
            backbone=dict(type=kind, arch=arch, img_size=32, patch_size=8),
            head=dict(type='LinearClsHead', in_channels=16, num_classes=5),
        )
        cfg['backbone'].update(options.pop('backbone', {}))
        return MODELS.build({**cfg, **options})

    def test_learning_rates_decay_by_layer(self):
        from mmengine.optim import build_optim_wrapper

        rates = {}
        for kind in ('hyper_mm.LorentzViT', 'mmpretrain.VisionTransformer'):
            model = self.classifier(kind)
            wrapper = build_optim_wrapper(
                model,
                dict(
                    constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
                    optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
                    paramwise_cfg=dict(layer_decay_rate=0.5),
                ),
            )
            names = {id(p): name for name, p in model.named_parameters()}
            rates[kind] = {
                names[id(p)]: group['lr']
                for group in wrapper.optimizer.param_groups
                for p in group['params']
            }
        ours, theirs = rates.values()
        assert set(ours) == {name for name, _ in self.classifier().named_parameters()}
        # 4 layers: embedding, two blocks, what follows
        for name, rate in ours.items():
            layer = 0 if 'embedding' in name else 3
            if 'blocks.' in name:
                layer = int(name.split('blocks.')[1][0]) + 1
            assert rate == 0.5 ** (3 - layer), name
        assert set(ours.values()) == set(theirs.values())

    @pytest.mark.parametrize('with_cls_token, neck', [(False, 1), (True, 2)])
    def test_prefix_tokens_that_the_neck_expects(self, with_cls_token, neck):
        small = dict(num_leaves=8, num_levels=3, width=8, num_heads=2)
        with pytest.raises(ValueError, match=f'num_prefix_tokens is {neck}, but the backbone has'):
            self.classifier(
                backbone=dict(out_type='raw', with_cls_token=with_cls_token),
                neck=dict(
                    type='hyper_mm.HiMapperPooling', in_channels=16, num_prefix_tokens=neck, **small
                ),
            )

    def test_flops_are_counted(self):
        from mmengine.analysis import get_model_complexity_info

        found = {}
        for kind in ('hyper_mm.LorentzViT', 'mmpretrain.VisionTransformer'):
            info = get_model_complexity_info(
                self.classifier(kind).eval(),
                input_shape=(3, 32, 32),
                show_table=False,
                show_arch=False,
            )
            found[kind] = info['flops']
        ours, theirs = found.values()
        # as many products of matrices, with a column of time each, and a gated network
        assert theirs < ours < 3 * theirs

    @pytest.mark.parametrize('positions', ['hope', 'learned'])
    def test_traced_for_any_batch_and_size(self, positions):
        model = self.classifier(backbone=dict(positions=positions)).eval()
        with torch.no_grad():
            traced = torch.jit.trace(model, images(), check_trace=False)
            for x in (images(batch=3), images(48, 40), images(37, 29, batch=1)):
                torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-5)


def test_scale_of_the_residual_connections():
    image, found = torch.randn(1, 3, 32, 32), []
    for scale in (None, 1.5):
        torch.manual_seed(0)
        model = backbone(residual_scale=scale).eval()
        expected = {model.embed_dims**0.5 if scale is None else scale}
        assert {m.scale for m in model.modules() if isinstance(m, LorentzResidual)} == expected
        found.append(model(image)[0])
    assert not torch.allclose(*found)


@pytest.mark.parametrize('layers, found', [(None, [1, 2]), ((0, 2), [0, 2]), ((-1,), [2])])
def test_blocks_with_experts(layers, found):
    model = backbone(experts=EXPERTS, expert_layers=layers)
    assert [i for i, b in enumerate(model.vit.blocks) if isinstance(b.ffn, RoutedExperts)] == found
    with pytest.raises(ValueError, match='expert_layers needs experts'):
        backbone(expert_layers=(0,))
