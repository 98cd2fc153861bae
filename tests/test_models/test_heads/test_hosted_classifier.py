"""Hyperbolic classifiers and label trees in the heads of the hosts."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.registry import MODELS as ROOT  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from hyper_mm.models.heads.hosted_classifier import CLASSIFIERS  # noqa: E402

TREE = {'animal': {'bird': ['owl', 'hen'], 'fish': ['cod']}, 'sky': []}
KINDS = sorted(CLASSIFIERS)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('hyper_mm'):
        yield


def segmentation(**options):
    """A decode head of 4 classes on maps of 6 channels."""
    pytest.importorskip('mmseg')
    stock = options.pop('stock', 'hyper_mm.FCNHead')
    config = dict(in_channels=6, channels=5, num_convs=1, num_classes=4, concat_input=False)
    head = ROOT.build(dict(_scope_='mmseg', type=stock, **config, **options))
    head.init_weights()
    return head


def samples(count=2, size=8):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    torch.manual_seed(0)
    labels = torch.randint(4, (count, 1, size, size))
    labels[0, 0, 0, :3] = 255
    return [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]


def maps():
    torch.manual_seed(0)
    return [torch.randn(2, 6, 8, 8)]


@pytest.mark.mmseg
class TestSegmentation:
    @pytest.mark.parametrize('kind', KINDS)
    def test_one_line_replaces_the_classifier(self, kind):
        head = segmentation(classifier=dict(type=kind, embed_dims=3))
        logits = head(maps())
        assert logits.shape == (2, 4, 8, 8)
        losses = head.loss(maps(), samples(), None)
        assert set(losses) == {'loss_ce', 'acc_seg'}
        losses['loss_ce'].backward()
        assert all(p.grad.isfinite().all() for p in head.conv_seg.parameters())
        found = head.uncertainty(maps(), (16, 16))
        assert found.shape == (2, 16, 16)
        assert (found <= 0).all()

    def test_the_initialization_of_the_host_does_not_reach_it(self):
        """mmseg draws ``conv_seg`` from a normal of 0.01."""
        torch.manual_seed(0)
        head = segmentation(classifier=dict(type='LorentzMLR', embed_dims=4))
        assert head.conv_seg.weight.std() > 0.1
        assert (head.conv_seg.offset == 0).all()

    def test_a_trained_linear_classifier_is_taken_over(self):
        stock = segmentation(stock='FCNHead').eval()
        torch.nn.init.normal_(stock.conv_seg.weight)
        torch.nn.init.normal_(stock.conv_seg.bias)
        for kind in ('LorentzMLR', 'PoincareMLR', 'EuclideanMLR'):
            head = segmentation(classifier=dict(type=kind, init='from_linear')).eval()
            head.load_state_dict(stock.state_dict())
            expected = stock(maps())
            limit = 2e-3 * expected.abs().max().item()
            torch.testing.assert_close(head(maps()), expected, rtol=0, atol=limit)

    def test_a_stock_checkpoint_is_refused_otherwise(self):
        stock, head = (
            segmentation(stock='FCNHead'),
            segmentation(classifier=dict(type='LorentzMLR')),
        )
        with pytest.raises(RuntimeError, match=r'conv_seg\.'):
            head.load_state_dict(stock.state_dict())

    def test_without_arguments_it_is_the_stock_head(self):
        stock, head = segmentation(stock='FCNHead').eval(), segmentation().eval()
        head.load_state_dict(stock.state_dict())
        assert torch.equal(head(maps()), stock(maps()))
        with pytest.raises(ValueError, match='uncertainty needs a head with classifier'):
            head.uncertainty(maps())

    @pytest.mark.parametrize('classifier', [None, dict(type='LorentzMLR', embed_dims=3)])
    @pytest.mark.parametrize(
        ('options', 'extra'),
        [
            (dict(), set()),
            (dict(loss='tree_min', triplet=0.5), {'loss_tree', 'loss_triplet'}),
            (dict(loss='levels'), {'loss_tree'}),
        ],
    )
    def test_trees(self, classifier, options, extra):
        head = segmentation(classifier=classifier, taxonomy=dict(file=TREE, **options))
        losses = head.loss(maps(), samples(), None)
        assert set(losses) == {'loss_ce', 'acc_seg'} | extra
        sum(v for k, v in losses.items() if k.startswith('loss')).backward()
        assert head.conv_seg.weight.shape[0] == (4 if options.get('loss') == 'levels' else 7)
        assert head.eval()(maps()).shape == (2, 4, 8, 8)
        again = pickle.loads(pickle.dumps(copy.deepcopy(head)))
        assert torch.equal(again(maps()), head(maps()))

    def test_hierarchical_softmax_are_probabilities(self):
        head = segmentation(taxonomy=dict(file=TREE)).eval()
        torch.testing.assert_close(head(maps()).exp().sum(1), torch.ones(2, 8, 8))

    def test_linear_weights_of_a_convolution_fit_a_linear_layer(self):
        tree = dict(file=TREE, loss='levels')
        stock, head = segmentation(stock='FCNHead').eval(), segmentation(taxonomy=tree).eval()
        head.load_state_dict(stock.state_dict())
        torch.testing.assert_close(head(maps()), stock(maps()))

    def test_classes_of_a_tree_in_the_order_of_the_head(self):
        order = ['sky', 'cod', 'hen', 'owl']
        head = segmentation(taxonomy=dict(file=TREE, classes=order))
        assert head.taxonomy.classes == tuple(order)
        with pytest.raises(ValueError, match="no class 'dog'"):
            segmentation(taxonomy=dict(file=TREE, classes=['sky', 'cod', 'hen', 'dog']))

    @pytest.mark.parametrize(
        'loss',
        [
            dict(type='CrossEntropyLoss', use_sigmoid=True),
            dict(type='FocalLoss'),
            [dict(type='CrossEntropyLoss'), dict(type='DiceLoss')],
        ],
    )
    def test_refuses_sigmoids_of_log_probabilities(self, loss):
        for name in ('softmax', 'tree_min'):
            with pytest.raises(ValueError, match=f"taxonomy.loss='{name}' makes .* use_sigmoid"):
                segmentation(taxonomy=dict(file=TREE, loss=name), loss_decode=loss)
        segmentation(taxonomy=dict(file=TREE, loss='levels'), loss_decode=loss)
        segmentation(classifier=dict(type='LorentzMLR'), loss_decode=loss)

    @pytest.mark.parametrize(
        ('options', 'words'),
        [
            (dict(classifier='LorentzMLR'), "classifier must be a dict.* got 'LorentzMLR'"),
            (dict(taxonomy=3), 'taxonomy must be a file or a dict, got 3'),
            (dict(classifier=dict(type='LorenzMLR')), "did you mean 'LorentzMLR'"),
            (dict(classifier=dict(type='LorentzMLR', dims=3)), "no argument 'dims'|keyword"),
            (dict(taxonomy=dict(file=TREE, loss='tree')), 'loss must be'),
            (dict(taxonomy=dict(fil=TREE)), 'must have the keys file, loss'),
            (dict(taxonomy=dict(file={'a': ['b', 'c']})), 'has 2 classes, the head has 4'),
        ],
    )
    def test_refuses(self, options, words):
        with pytest.raises((ValueError, TypeError), match=words):
            segmentation(**options)

    def test_heads_without_a_linear_layer(self):
        """They are the stock heads, and have nothing to replace."""
        pytest.importorskip('mmseg')
        config = dict(
            _scope_='mmseg', type='hyper_mm.PointHead', in_channels=[6], in_index=[0], channels=5,
            num_classes=4,
        )  # fmt: skip
        assert ROOT.build(config).fc_seg.out_channels == 4
        with pytest.raises(ValueError, match=r'PointHead\.conv_seg is NoneType'):
            ROOT.build(dict(**config, classifier=dict(type='LorentzMLR')))


def classification(**options):
    pytest.importorskip('mmpretrain')
    config = dict(num_classes=4, in_channels=6)
    return ROOT.build(
        dict(_scope_='mmpretrain', type='hyper_mm.LinearClsHead', **config, **options)
    )


@pytest.mark.mmpretrain
class TestClassification:
    @pytest.mark.parametrize('kind', KINDS)
    def test_one_line_replaces_the_classifier(self, kind):
        from mmpretrain.structures import DataSample

        head = classification(classifier=dict(type=kind))
        feats = (torch.randn(3, 6),)
        labels = [DataSample().set_gt_label(k) for k in range(3)]
        head.loss(feats, labels)['loss'].backward()
        assert head.predict(feats)[0].pred_score.shape == (4,)
        assert head.embedding_radius(feats[0]).shape == (3,)

    def test_tree(self):
        from mmpretrain.structures import DataSample

        tree = dict(file=TREE, loss='tree_min', triplet=1.0)
        head = classification(classifier=dict(type='LorentzMLR'), taxonomy=tree)
        labels = [DataSample().set_gt_label(k) for k in range(3)]
        losses = head.loss((torch.randn(3, 6),), labels)
        assert set(losses) == {'loss', 'loss_tree', 'loss_triplet'}
        mixed = [DataSample().set_gt_score(torch.ones(4) / 4) for _ in range(3)]
        with pytest.raises(ValueError, match='mixed labels'):
            head.loss((torch.randn(3, 6),), mixed)

    @pytest.mark.parametrize(
        'loss',
        [
            dict(type='CrossEntropyLoss', use_sigmoid=True),
            dict(type='FocalLoss'),
            dict(type='AsymmetricLoss'),
            dict(type='LabelSmoothLoss', mode='multi_label', label_smooth_val=0.1),
        ],
    )
    def test_refuses_sigmoids_of_log_probabilities(self, loss):
        with pytest.raises(ValueError, match="taxonomy.loss='softmax' makes .* use_sigmoid"):
            classification(taxonomy=dict(file=TREE), loss=loss)
        classification(taxonomy=dict(file=TREE), loss=dict(type='CrossEntropyLoss'))


@pytest.mark.mmdet
def test_box_heads():
    pytest.importorskip('mmdet')
    options = dict(in_channels=4, fc_out_channels=6, num_classes=3, roi_feat_size=2)
    for kind in KINDS:
        head = ROOT.build(
            dict(
                _scope_='mmdet',
                type='hyper_mm.Shared2FCBBoxHead',
                classifier=dict(type=kind),
                **options,
            )
        )
        head.init_weights()
        scores, boxes = head(torch.randn(5, 4, 2, 2))
        assert scores.shape == (5, 4)
        assert boxes.shape == (5, 12)
    with pytest.raises(ValueError, match='cls_predictor_cfg has no effect beside classifier'):
        ROOT.build(
            dict(
                _scope_='mmdet',
                type='hyper_mm.Shared2FCBBoxHead',
                classifier=dict(type='LorentzMLR'),
                cls_predictor_cfg=dict(type='NormedLinear'),
                **options,
            )
        )
    with pytest.raises(ValueError, match='heads without a class of background'):
        ROOT.build(
            dict(
                _scope_='mmdet',
                type='hyper_mm.Shared2FCBBoxHead',
                taxonomy=dict(file=TREE),
                **options,
            )
        )
