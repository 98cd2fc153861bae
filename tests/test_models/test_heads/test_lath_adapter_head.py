import pytest
import torch

from hyper_mm.registry import MODELS


def build(**options):
    return MODELS.build(
        {**dict(type='hyper_mm.LatHAdapterHead', num_classes=12, embed_dims=8), **options}
    )


class TestLatHAdapterHead:
    @pytest.mark.parametrize('batch', [1, 2, 9])
    @pytest.mark.parametrize('labelled', [True, False])
    def test_loss(self, batch, labelled):
        head = build()
        image = torch.randn(batch, 8, requires_grad=True)
        text = torch.randn(12, 8, requires_grad=True)
        losses = head.loss(image, text, torch.randint(0, 12, (batch,)) if labelled else None)
        names = {'loss_va', 'loss_at'}
        if labelled:
            names |= {'loss_ecls', 'loss_hcls', 'lath_adapter/changed'}
        assert losses.keys() == names
        sum(losses.values()).backward()
        for tensor in (*losses.values(), text.grad, head.refiner.attributes.grad):
            assert tensor.isfinite().all()

    def test_start_once_and_saved(self):
        head, text = build(), torch.randn(12, 8)
        before = head.refiner.attributes.clone()
        head.loss(torch.randn(4, 8), text, torch.zeros(4, dtype=torch.long))
        first = head.refiner.attributes.clone()
        mean = torch.nn.functional.normalize(text, dim=-1).mean(0)
        torch.testing.assert_close(first, before + mean)
        other = build()
        other.load_state_dict(head.state_dict())
        other.loss(torch.randn(4, 8), text, torch.zeros(4, dtype=torch.long))
        assert torch.equal(other.refiner.attributes, first)

    def test_other_vocabulary_at_test(self):
        assert build()(torch.randn(3, 8), torch.randn(30, 8)).shape == (3, 30)

    def test_length_of_features_does_not_matter(self):
        head, image, text = build(), torch.randn(3, 8), torch.randn(12, 8)
        torch.testing.assert_close(head(10 * image, 5 * text), head(image, text))

    def test_share_of_changed_predictions(self):
        image, text, labels = torch.randn(50, 8), torch.randn(12, 8), torch.arange(50) % 12
        shares = []
        for hyp_tau in (1e9, 1e-9):
            head = build(hyp_tau=hyp_tau, mean_text_init=False)
            shares.append(head.loss(image, text, labels)['lath_adapter/changed'])
            assert not shares[-1].requires_grad
        cosine, hyperbolic = (x.argmax(1) for x in head._logits(*head._features(image, text)[:2]))
        assert shares[0] == 0
        assert shares[1] == (cosine != hyperbolic).float().mean()

    def test_length_of_lifted_features(self):
        image, text, labels = torch.randn(50, 8), torch.randn(12, 8), torch.arange(50) % 12
        plain, long = build(mean_text_init=False), build(mean_text_init=False, feat_scale=3.0)
        long.load_state_dict(plain.state_dict())
        features = plain._features(image, text)
        for found, expected in zip(long._features(image, text), features):
            torch.testing.assert_close(found, 3 * expected)
        (cosine, near), (same, far) = plain.terms(image, text), long.terms(image, text)
        atol = 16 * torch.finfo(torch.float32).eps / plain.tau
        torch.testing.assert_close(same, cosine, atol=atol, rtol=0)
        assert (far < near).all()  # longer vectors lie further apart in the ball
        losses = [head.loss(image, text, labels)['loss_hcls'] for head in (plain, long)]
        assert losses[0] != losses[1]
        with pytest.raises(ValueError, match='feat_scale must be positive, got 0'):
            build(feat_scale=0.0)

    def test_number_of_attributes(self):
        assert len(build(num_classes=500).refiner.attributes) == 20
        assert len(build(num_classes=None, num_attributes=7).refiner.attributes) == 7
        with pytest.raises(ValueError, match='num_attributes needs num_classes'):
            build(num_classes=None)

    def test_refined_attributes(self):
        image, text = torch.randn(4, 8), torch.randn(12, 8)
        head = build(mean_text_init=False)
        other = build(mean_text_init=False, refined_attributes=True)
        other.load_state_dict(head.state_dict())
        unit_text = torch.nn.functional.normalize(text, dim=-1)
        expected = head.refiner.diffuse(unit_text)[12:]
        torch.testing.assert_close(other._features(image, text)[2], expected)
        assert torch.equal(head._features(image, text)[2], head.refiner.attributes)
        assert torch.equal(head(image, text), other(image, text))

    def test_one_class(self):
        head = build(num_classes=1)
        losses = head.loss(torch.randn(4, 8), torch.randn(1, 8), torch.zeros(4, dtype=torch.long))
        sum(losses.values()).backward()
        assert all(x.isfinite() for x in losses.values())
        assert head(torch.randn(4, 8), torch.randn(1, 8)).shape == (4, 1)

    def test_weights(self):
        losses = build(weights=dict(hcls=0.0)).loss(
            torch.randn(4, 8), torch.randn(12, 8), torch.arange(4)
        )
        assert losses['loss_hcls'] == 0 and losses['loss_ecls'] > 0

    def test_attribute_count(self):
        assert len(build(num_classes=397).refiner.attributes) == 16
        assert len(build(num_attributes=24).refiner.attributes) == 24

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(num_classes=0), 'num_classes'),
            (dict(tau=0.0), 'tau'),
            (dict(weights=dict(cls=1.0)), 'weights'),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            build(**options)

    def test_label_outside_the_vocabulary(self):
        with pytest.raises(ValueError, match='vocabulary'):
            build().loss(torch.randn(2, 8), torch.randn(12, 8), torch.tensor([0, 12]))


def test_the_old_name_of_the_width_is_accepted():
    with pytest.warns(DeprecationWarning, match="'dim' .*'embed_dims'"):
        head = MODELS.build(dict(type='hyper_mm.LatHAdapterHead', num_classes=12, dim=8))
    assert head.refiner.attributes.shape[1] == 8


def test_options_of_the_hierarchy_reach_its_loss():
    torch.manual_seed(1)
    image, text = torch.randn(6, 8), torch.randn(12, 8)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    losses = {}
    for margin in (0.1, 3.0):
        torch.manual_seed(2)
        head = build(hierarchy=dict(margin=margin))
        assert head.hierarchy.margin == margin
        losses[margin] = head.loss(image, text, labels)
    assert losses[3.0]['loss_va'] > losses[0.1]['loss_va']
    assert torch.equal(losses[3.0]['loss_ecls'], losses[0.1]['loss_ecls'])
    with pytest.raises(TypeError, match='no_such'):
        build(hierarchy=dict(no_such=1))
