import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmpretrain')
pytest.importorskip('open_clip')
pytestmark = pytest.mark.mmpretrain

from mmpretrain.structures import DataSample  # noqa: E402

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.clip_families import bert_config  # noqa: E402

NAMES = ['cat', 'polar_bear', 'sea', 'cat']
CLASSES = dict(names=NAMES, whole=True, templates=['a photo of a {}.'])
ROUNDINGS = 64 * torch.finfo(torch.float32).eps
"""Error of a cosine of features that two orders of summation have led to."""
LEARNERS = {
    'CoOp': dict(num_context=3),
    'MaPLe': dict(depth=3),
    'IVLP': dict(depth=2, image_depth=3),
    'VPT': dict(image_depth=3),
}
TOWERS = dict(
    embed_dim=16,
    quick_gelu=True,
    vision_cfg=dict(image_size=32, layers=3, width=32, head_width=8, patch_size=8),
    text_cfg=dict(context_length=77, vocab_size=49408, width=24, heads=3, layers=3),
)


def build(learner='MaPLe', seed=0, **options):
    torch.manual_seed(seed)
    prompts = learner and dict(type=learner, **LEARNERS[learner])
    config = dict(clip=dict(model=TOWERS), prompts=prompts, vocabulary=CLASSES)
    return MODELS.build(dict(type='hyper_mm.PromptedCLIP', **{**config, **options}))


def batch(size=3, labels=None):
    labels = torch.arange(size) % len(NAMES) if labels is None else labels
    return torch.randn(size, 3, 32, 32), [DataSample().set_gt_label(int(x)) for x in labels]


def gradients(model, inputs, samples):
    model.zero_grad()
    sum(model.train().loss(inputs, samples).values()).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def reference_image(clip, images, prompts):
    """The token layout, step by step: prompts after the patches and before the first norm."""
    visual = clip.visual
    patches = visual.conv1(images).flatten(2).mT
    first = visual.class_embedding.expand(len(images), 1, -1)
    x = torch.cat([first, patches], 1) + visual.positional_embedding
    x = visual.ln_pre(torch.cat([x, prompts[0].expand(len(images), -1, -1)], 1))
    for i, block in enumerate(visual.transformer.resblocks):
        if 0 < i < len(prompts):
            x = x.clone()
            x[:, -prompts[i].shape[0] :] = prompts[i]
        x = block(x)
    return F.normalize(visual.ln_post(x[:, 0]) @ visual.proj, dim=-1)


def reference_text(clip, tokens, prompts):
    """The same of texts, with all 77 positions."""
    x = clip.token_embedding(tokens).clone()
    x[:, 1 : 1 + len(prompts[0])] = prompts[0]
    x = x + clip.positional_embedding
    for i, block in enumerate(clip.transformer.resblocks):
        if 0 < i < len(prompts):
            x = x.clone()
            x[:, 1 : 1 + len(prompts[i])] = prompts[i]
        x = block(x, attn_mask=clip.attn_mask)
    x = clip.ln_final(x)[torch.arange(len(x)), tokens.argmax(-1)]
    return F.normalize(x @ clip.text_projection, dim=-1)


class TestTowers:
    @pytest.mark.parametrize('learner', LEARNERS)
    @torch.no_grad()
    def test_token_layout(self, learner):
        model, (images, _) = build(learner).eval(), batch()
        text, image = model.prompts()
        prefix = model.prompts.prefix if text else 'a photo of a'
        tokens = model.clip.tokenizer([f'{prefix} {name.replace("_", " ")}.' for name in NAMES])
        if text:
            expected = reference_text(model.clip, tokens, text)
        else:
            expected = F.normalize(model.clip.encode_text(tokens), dim=-1)
        torch.testing.assert_close(model.text_features(), expected, atol=1e-5, rtol=1e-5)
        if image:
            expected = reference_image(model.clip, images, image)
        else:
            expected = F.normalize(model.clip.encode_image(images), dim=-1)
        torch.testing.assert_close(model.image_features(images), expected, atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_words_as_prompts_change_nothing(self):
        model = build('CoOp', prompts=dict(type='CoOp', num_context=4, words='a photo of a'))
        plain = build(None)
        plain.clip.load_state_dict(model.clip.state_dict())
        plain.set_vocabulary(CLASSES)
        torch.testing.assert_close(model.text_features(), plain.text_features())

    @torch.no_grad()
    def test_zero_shot_is_clip(self):
        from open_clip import tokenize

        model, (images, _) = build(None).eval(), batch()
        texts = [f'a photo of a {n}.' for n in ('cat', 'polar bear', 'sea', 'cat')]
        image = F.normalize(model.clip.encode_image(images), dim=-1)
        text = F.normalize(model.clip.encode_text(tokenize(texts)), dim=-1)
        scale = model.clip.logit_scale.exp()
        atol = float(scale) * ROUNDINGS
        torch.testing.assert_close(model(images), scale * image @ text.T, atol=atol, rtol=0)

    def test_chunks_and_checkpoints_give_the_same_gradients(self):
        torch.manual_seed(1)
        data = batch()
        expected = gradients(build(), *data)
        found = gradients(build(chunk=1, checkpoint=True), *data)
        assert found.keys() == expected.keys()
        for name, grad in expected.items():
            error = (found[name] - grad).abs().max() / grad.abs().max()
            assert error < 1e-5, name

    def test_checkpoints_keep_less(self):
        def kept(**options):
            model, size = build(vocabulary=[f'class {i}' for i in range(24)], **options), 0

            def pack(tensor):
                nonlocal size
                size += tensor.numel()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
                model.train().text_features()
            return size

        assert 3 * kept(chunk=4, checkpoint=True) < kept()


CNN = dict(timm_model_name='test_efficientnet', timm_pool='avg', timm_proj='linear', image_size=32)
DEEP = dict(type='CoOp', num_context=4, words='a photo of a', depth=3)


class TestTowersOfHuggingFace:
    @pytest.fixture(autouse=True)
    def needed(self):
        pytest.importorskip('transformers')

    @pytest.mark.parametrize('kind', ['bert', 'roberta'])
    @torch.no_grad()
    def test_token_layout(self, kind, tmp_path):
        model = build(
            clip=dict(model=bert_config(tmp_path, TOWERS['vision_cfg'], kind)), prompts=DEEP
        ).eval()
        tower, (vectors, image) = model.clip.text, model.prompts()
        assert not image and len(vectors) == 3
        for vector in vectors:
            vector.normal_()
        found = model.text_features()
        for name, feature in zip(NAMES, found):  # one text at a time needs no mask
            tokens = model.clip.tokenizer([f'a photo of a {name.replace("_", " ")}.'])
            words = tower.transformer.embeddings.word_embeddings(tokens)
            x = torch.cat([words[:, :1], vectors[0][None], words[:, 5:]], 1)
            x = tower.transformer.embeddings(inputs_embeds=x)
            for layer, vector in zip(tower.transformer.encoder.layer, [None, *vectors[1:]]):
                if vector is not None:
                    x = torch.cat([x[:, :1], vector[None], x[:, 5:]], 1)
                x = layer(x)[0]
            expected = F.normalize(tower.proj(x.mean(1)), dim=-1)[0]
            torch.testing.assert_close(feature, expected, atol=1e-5, rtol=1e-5)
        assert not any(layer._forward_pre_hooks for layer in tower.transformer.encoder.layer)

    @torch.no_grad()
    def test_words_as_prompts_change_nothing(self, tmp_path):
        clip = dict(model=bert_config(tmp_path, TOWERS['vision_cfg']))
        model, plain = build(clip=clip, prompts=dict(DEEP, depth=1)).eval(), build(None, clip=clip)
        plain.clip.load_state_dict(model.clip.state_dict())
        torch.testing.assert_close(model.text_features(), plain.eval().text_features())

    @pytest.mark.parametrize('options', [{}, dict(chunk=1, checkpoint=True)])
    def test_trains_on_a_convolutional_image_tower(self, options, tmp_path):
        head = dict(type='hyper_mm.LatHAdapterHead', num_classes=4, embed_dims=16)
        clip = dict(model=bert_config(tmp_path, CNN))
        model, (images, samples) = build(clip=clip, prompts=DEEP, head=head, **options), batch()
        found = gradients(model, images, samples)
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        assert found.keys() == trained and {f'prompts.deep.{i}' for i in (0, 1)} < trained
        assert all(grad.isfinite().all() and grad.any() for grad in found.values())
        with torch.no_grad():  # features that are kept serve as well
            text, image = model.text_features(), model.image_features(images)
        labels = torch.tensor([sample.gt_label.item() for sample in samples])
        torch.manual_seed(0)
        kept = model.losses_of(image, text, labels)
        torch.manual_seed(0)
        torch.testing.assert_close(kept, model.loss(images, samples))

    def test_image_prompts_of_a_transformer_beside_it(self, tmp_path):
        clip = dict(model=bert_config(tmp_path, TOWERS['vision_cfg']))
        found = gradients(build('IVLP', clip=clip, consistency={}), *batch())
        assert {'prompts.context', 'prompts.image.2'} <= found.keys()

    def test_what_cannot_take_prompts_is_named(self, tmp_path):
        clip = dict(model=bert_config(tmp_path, CNN))
        for learner in ('MaPLe', 'IVLP', 'VPT'):
            with pytest.raises(ValueError, match="TimmModel, .* no tokens .* type='CoOp'"):
                build(learner, clip=clip)
        with pytest.raises(ValueError, match='text tower, 3 blocks, got 4'):
            build(clip=clip, prompts=dict(DEEP, depth=4))
        with pytest.raises(ValueError, match='overwrite the class name'):
            build(clip=clip, prompts=dict(DEEP, num_context=5))
        import transformers as hf

        config = hf.M2M100Config(
            vocab_size=40, d_model=24, encoder_layers=2, decoder_layers=1, encoder_ffn_dim=48,
            encoder_attention_heads=3, decoder_attention_heads=3, max_position_embeddings=24,
        )  # fmt: skip
        config.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match='text tower like BERT .* M2M100Encoder'):
            build(clip=clip, prompts=DEEP)
        custom = dict(TOWERS, custom_text=True)
        with pytest.raises(ValueError, match='one of Hugging Face .* TextTransformer'):
            build(clip=dict(model=custom), prompts=DEEP)


class TestPromptedCLIP:
    @pytest.mark.parametrize('learner', LEARNERS)
    @pytest.mark.parametrize('head', [False, True])
    def test_training(self, learner, head):
        head = dict(type='hyper_mm.LatHAdapterHead', num_classes=4, embed_dims=16) if head else None
        model = build(learner, head=head)
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        assert all(n.startswith(('prompts.', 'head.')) for n in trained)
        found = gradients(model, *batch())
        assert found.keys() == trained
        assert all(grad.isfinite().all() and grad.any() for grad in found.values())
        assert not model.clip.training and model.prompts.training

    @pytest.mark.parametrize('precision', ['fp32', 'bf16'])
    def test_low_precision(self, precision):
        clip = dict(model=TOWERS, precision=precision)
        head = dict(type='hyper_mm.LatHAdapterHead', num_classes=4, embed_dims=16)
        model = build('IVLP', clip=clip, head=head, consistency={})
        assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
        with torch.autocast('cpu', torch.bfloat16):
            found = gradients(model, *batch())
        assert all(grad.isfinite().all() and grad.any() for grad in found.values())

    def test_learns(self):
        model, data = build(), batch(4, [0, 1, 2, 2])
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05)
        losses = []
        for _ in range(15):
            gradients(model, *data)
            optimizer.step()
            losses.append(model.loss(*data)['loss_ce'].item())
        assert losses[-1] < 0.9 * losses[0]

    def test_promptsrc(self):
        model, (images, samples) = build('IVLP', consistency=dict(image=5.0)), batch()
        losses = model.train().loss(images, samples)
        names = ['loss_ce', 'loss_src_text', 'loss_src_image', 'loss_src_logits']
        assert sorted(losses) == sorted(names)
        frozen = F.normalize(model.clip.encode_image(images), dim=-1)
        expected = 5 * F.l1_loss(model.image_features(images), frozen)
        torch.testing.assert_close(losses['loss_src_image'], expected)
        assert model.frozen_text().shape == (4, 16) and not model.frozen_text().requires_grad

    @pytest.mark.parametrize('head', [False, True])
    def test_prediction(self, head):
        head = dict(type='hyper_mm.LatHAdapterHead', num_classes=4, embed_dims=16) if head else None
        model, (images, samples) = build(head=head).eval(), batch()
        with torch.no_grad():
            found = model(images, samples, mode='predict')
            logits = model(images)
        for sample, row in zip(found, logits):
            torch.testing.assert_close(sample.pred_score, row.softmax(-1))
            assert sample.pred_label == row.argmax()

    def test_other_classes_at_test(self):
        model, (images, _) = build().eval(), batch()
        with torch.no_grad():
            model(images)
            model.set_vocabulary(['dog', 'sky', 'sun', 'moon', 'sea'])
            assert model(images).shape == (3, 5)

    @torch.no_grad()
    def test_halves_are_those_of_two_tests(self):
        names = ['cat', 'dog', 'sea', 'sky', 'sun']
        head = dict(
            type='hyper_mm.LatHAdapterHead', num_classes=3, embed_dims=16, refiner=dict(beta=5.0)
        )
        model, (images, _) = build(head=head).eval(), batch()
        model.set_vocabulary(names, halves=True)
        found, parts = model(images), []
        for part in (names[:3], names[3:]):
            model.set_vocabulary(part)
            parts.append(model(images))
        atol = ROUNDINGS / model.head.tau  # logits are cosines over tau
        torch.testing.assert_close(found, torch.cat(parts, 1), atol=atol, rtol=0)
        model.set_vocabulary(names)
        assert (model(images) - found).abs().max() > 10 * atol
        model.set_vocabulary(['cat'], halves=True)
        assert model(images).shape == (3, 1)

    @torch.no_grad()
    def test_templates(self):
        model = build(None)
        model.set_vocabulary(['cat', 'dog'], templates=['{} texture.', 'a {}.'])
        tokens = [['cat texture.', 'a cat.'], ['dog texture.', 'a dog.']]
        rows = [
            F.normalize(model.clip.encode_text(model.clip.tokenizer(x)), dim=-1) for x in tokens
        ]
        expected = F.normalize(torch.stack([x.mean(0) for x in rows]), dim=-1)
        torch.testing.assert_close(model.text_features(), expected)
        with pytest.raises(ValueError, match='templates go with a list'):
            model.set_vocabulary('voc20', templates=['a {}.'])

    def test_features_of_classes_are_computed_once_without_text_prompts(self):
        model = build('VPT').train()
        first = model.text_features()
        assert model.eval().text_features() is first and not first.requires_grad

    def test_features_of_classes_are_kept_in_evaluation_only(self):
        model = build().eval()
        with torch.no_grad():
            first = model.text_features()
            assert model.text_features() is first
            model.load_state_dict(build(seed=5).state_dict())
            second = model.text_features()
            assert not torch.allclose(first, second)
            model.train()
            model.prompts.context.normal_()
            assert not torch.allclose(model.eval().text_features(), second)

    def test_weights_do_not_depend_on_the_vocabulary(self):
        other = build(vocabulary=['dog', 'sun'])
        other.load_state_dict(build().state_dict())

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(prompts=dict(type='VPC')), 'prompts.type'),
            (dict(prompts=dict(type='MaPLe', depth=4)), 'text tower, 3 blocks'),
            (dict(prompts=dict(type='IVLP', depth=1, image_depth=4)), 'image tower, 3 blocks'),
            (dict(prompts=dict(type='MaPLe', num_context=5, depth=1)), 'overwrite'),
            (dict(consistency=dict(img=1.0)), 'consistency'),
            (dict(prompts=None, consistency={}), 'consistency'),
            (dict(chunk=0), 'chunk'),
            (dict(vocabulary=['cat ' * 80]), 'at most 77 tokens'),
            (
                dict(head=dict(type='hyper_mm.LatHAdapterHead', num_classes=4, embed_dims=8)),
                'head.embed_dims',
            ),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            build(**options)

    def test_bad_use(self):
        with pytest.raises(RuntimeError, match='DatasetVocabularyHook'):
            build(vocabulary=None)(torch.randn(1, 3, 32, 32))
        with pytest.raises(ValueError, match='vocabulary'):
            build().loss(*batch(2, [0, 4]))
        with pytest.raises(ValueError, match='vocabulary'):
            build().loss(*batch(2, [0, -1]))
        with pytest.raises(ValueError, match='at least two classes, got 1'):
            build(vocabulary=['cat']).loss(*batch(2, [0, 0]))
        with pytest.raises(ValueError, match='size .32, 32. of the tower'):
            build()(torch.randn(1, 3, 32, 48))
        with pytest.raises(RuntimeError, match='mode'):
            build()(*batch(), mode='train')


class TestInferencer:
    @pytest.fixture
    def start(self, tmp_path):
        from mmengine.config import Config
        from mmengine.registry import init_default_scope
        from mmpretrain import ImageClassificationInferencer

        init_default_scope('mmpretrain')  # the inferencer leaves one that is set as it is

        def make(vocabulary=None, classes=('ant', 'bee', 'cat')):
            model = build(vocabulary=vocabulary)
            path = str(tmp_path / 'weights.pth')
            meta = dict(dataset_meta=dict(classes=classes)) if classes else {}
            torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
            preprocess = dict(type='ClsDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)
            config = dict(type='hyper_mm.PromptedCLIP', data_preprocessor=preprocess)
            config |= dict(clip=dict(model=TOWERS), prompts=dict(type='MaPLe', depth=3))
            pipeline = [dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
            loader = dict(dataset=dict(type='ImageNet', pipeline=pipeline))
            if vocabulary:
                config['vocabulary'] = vocabulary
            cfg = Config(dict(model=config, test_dataloader=loader, default_scope='mmpretrain'))
            return ImageClassificationInferencer(cfg, pretrained=path, device='cpu')

        return make

    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)

    def test_classes_of_the_checkpoint(self, start):
        inferencer = start()
        (found,) = inferencer(self.image)
        assert found['pred_class'] in ('ant', 'bee', 'cat') and len(found['pred_scores']) == 3

    def test_names_follow_the_vocabulary(self, start):
        inferencer = start()
        for names in (['sea', 'sky'], ['one', 'two', 'three', 'four']):
            inferencer.model.set_vocabulary(names)
            (found,) = inferencer(self.image)
            assert found['pred_class'] == names[found['pred_label']]
            assert len(found['pred_scores']) == len(names)

    def test_vocabulary_of_the_config_stays(self, start):
        (found,) = start(vocabulary=['sea', 'sky'])(self.image)
        assert found['pred_class'] in ('sea', 'sky')


def test_classes_can_be_assigned():
    model = build()
    model.vocabulary = ['cat', 'dog']
    assert list(model.vocabulary.names) == ['cat', 'dog'] and len(model.text_features()) == 2
    with pytest.raises((TypeError, ValueError)):
        model.vocabulary = 3
    assert list(model.vocabulary.names) == ['cat', 'dog']


def test_promptsrc_encodes_its_templates_once(monkeypatch):
    from hyper_mm.models.utils import vocabulary_features

    encoded, encode = [], vocabulary_features.encode_text
    monkeypatch.setattr(
        vocabulary_features,
        'encode_text',
        lambda clip, tokens, *args: encoded.append(len(tokens)) or encode(clip, tokens, *args),
    )
    names, model = ['cat', 'dog'], build('IVLP', consistency={})
    for _ in range(3):  # epochs
        model.set_vocabulary(Vocabulary.of_dataset(names, model.templates))
        model.train().loss(*batch(2, [0, 1]))
    assert sorted(encoded) == [2, 2, 2, 160]  # learned prompts each time, 80 templates once


DISTRIBUTED = {
    'maple': dict(chunk=2, checkpoint=True),
    'promptsrc': dict(learner='IVLP', consistency={}),
}


def distributed_build(name):
    # no ancestors are drawn by chance: the ranks would draw others
    head = dict(num_classes=4, dim=16, weights=dict(va=0.0, at=0.0))
    return build(**DISTRIBUTED[name], head=dict(type='hyper_mm.LatHAdapterHead', **head)), batch(4)


def distributed_rank(rank, folder):
    from mmengine.model import MMDistributedDataParallel

    torch.set_num_threads(1)
    store = f'file://{folder}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    for name in DISTRIBUTED:
        model, (images, samples) = distributed_build(name)
        wrapped = MMDistributedDataParallel(model.train())
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
        for _ in range(2):  # a second forward fails where a parameter has had no gradient
            optimizer.zero_grad()
            part = slice(2 * rank, 2 * rank + 2)
            losses = wrapped(images[part], samples[part], mode='loss')
            model.parse_losses(losses)[0].backward()
            optimizer.step()
        torch.save(model.state_dict(), f'{folder}/{name}{rank}.pth')
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    torch.multiprocessing.spawn(distributed_rank, (str(tmp_path),), nprocs=2)
    for name in DISTRIBUTED:
        model, data = distributed_build(name)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model.parse_losses(model.train().loss(*data))[0].backward()
            optimizer.step()
        for rank in range(2):
            found = torch.load(tmp_path / f'{name}{rank}.pth')
            for key, value in model.state_dict().items():
                torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4, msg=key)
