import pytest
import torch

from hyper_mm.layers import IVLP, VPT, CoOp, MaPLe
from hyper_mm.layers.lathadapter.prompts import self_consistency


def count(module):
    return sum(p.numel() for p in module.parameters())


class TestLearners:
    def test_parameters_are_those_of_the_official_code(self):
        assert count(MaPLe(512, 768)) == 3_555_072
        assert count(IVLP(512, 768)) == 46_080
        assert count(CoOp(512, 768)) == 16 * 512

    @pytest.mark.parametrize('depth', [1, 3])
    def test_maple(self, depth):
        learner = MaPLe(8, 12, depth=depth)
        text, image = learner()
        assert [p.shape for p in text] == [(2, 8)] * depth
        assert [p.shape for p in image] == [(2, 12)] * depth
        expected = learner.projections[-1](text[-1])
        torch.testing.assert_close(image[-1], expected)

    def test_deep_prompts_of_the_texts_alone(self):
        learner = CoOp(8, None, num_context=3, depth=2)
        text, image = learner()
        assert [p.shape for p in text] == [(3, 8)] * 2 and not image
        assert list(learner.state_dict()) == ['context', 'deep.0']
        assert list(CoOp(8).state_dict()) == ['context']

    def test_ivlp(self):
        text, image = IVLP(8, 12, num_image=5, depth=2, image_depth=3)()
        assert [p.shape for p in text] == [(4, 8)] * 2
        assert [p.shape for p in image] == [(5, 12)] * 3

    def test_vpt(self):
        text, image = VPT(8, 12, image_depth=3)()
        assert not text and [p.shape for p in image] == [(4, 12)] * 3
        with pytest.raises(ValueError, match='image_depth'):
            VPT(8, 12, image_depth=0)

    def test_start_at_the_first_words(self):
        learner, embeddings = MaPLe(8, 12), torch.randn(4, 8)
        learner.init_context(embeddings)
        assert torch.equal(learner.context, embeddings[:2])
        assert learner.prompt('cat') == 'a photo of a cat.'

    def test_random_start(self):
        learner = CoOp(8, 12, num_context=3)
        before = learner.context.clone()
        learner.init_context(torch.randn(3, 8))
        assert torch.equal(learner.context, before)
        assert learner.prompt('cat') == 'X X X cat.'

    def test_name_is_not_overwritten(self):
        with pytest.raises(ValueError, match='overwrite the class name'):
            MaPLe(8, 12, num_context=5).init_context(torch.randn(4, 8))

    @pytest.mark.parametrize('learner', [CoOp, MaPLe, IVLP])
    def test_bad_arguments(self, learner):
        with pytest.raises(ValueError, match='num_context'):
            learner(8, 12, num_context=0)
        with pytest.raises(ValueError, match='depth'):
            learner(8, 12, depth=0)


class TestSelfConsistency:
    def features(self):
        unit = torch.nn.functional.normalize
        return [unit(torch.randn(n, 6, dtype=torch.float64), dim=-1) for n in (3, 5, 3, 5)]

    def test_formulas(self):
        image, text, frozen_image, frozen_text = features = self.features()
        losses = self_consistency(*features, scale=7.0)
        assert losses['text'] == pytest.approx(((text - frozen_text).abs().sum() / 30).item())
        assert losses['image'] == pytest.approx(((image - frozen_image).abs().sum() / 18).item())
        p, q = (torch.softmax(7 * a @ b.T, -1) for a, b in (features[:2], features[2:]))
        assert losses['logits'] == pytest.approx((q * (q / p).log()).mean().item())

    def test_zero_at_the_frozen_features(self):
        features = self.features()[:2] * 2
        assert sum(self_consistency(*features, scale=9.0).values()).item() == pytest.approx(0)
