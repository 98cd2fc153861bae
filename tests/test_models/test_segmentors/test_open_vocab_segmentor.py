"""The open-vocabulary segmentor on small random towers: losses, arms, inference, bad input."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from mmengine.logging import MMLogger  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402

from tests.helpers.open_vocab import (  # noqa: E402
    HYPERCLIP,
    NAMES,
    SIZE,
    WINDOWS,
    batch,
    build,
    labels_of,
    run,
    trained,
)

pytestmark = pytest.mark.mmseg


class TestLoss:
    @pytest.mark.parametrize('ignore', ['zero', 'mask'])
    def test_values(self, ignore):
        model, data = build(ignore=ignore), batch()
        for sample in data['data_samples']:
            sample.gt_sem_seg.data[:, :7] = 255
        found = run(model, data)['loss_ce']
        images = torch.stack(data['inputs'])
        label = torch.cat([s.gt_sem_seg.data for s in data['data_samples']])
        logits = F.interpolate(model(images), size=(SIZE, SIZE), mode='bilinear')
        target = torch.stack([label == t for t in range(len(NAMES))], 1).float()
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
        if ignore == 'mask':
            loss = loss[(label != 255)[:, None].expand_as(loss)]
        torch.testing.assert_close(found, loss.mean())

    def test_everything_ignored(self):
        model, data = build(ignore='mask'), batch(1)
        data['data_samples'][0].gt_sem_seg.data.fill_(255)
        loss = run(model, data)['loss_ce']
        loss.backward()
        assert loss == 0

    def test_training_lowers_it(self):
        model, data = build(adapter=HYPERCLIP), batch()
        for sample, image in zip(data['data_samples'], data['inputs']):
            sample.gt_sem_seg.data = (image[:1] > 0).long()
        wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
        history = [model.train_step(copy.deepcopy(data), wrapper)['loss'].item() for _ in range(12)]
        assert history[-1] < 0.8 * history[0]

    def test_more_than_255_classes(self):
        names = [f'thing {i}' for i in range(300)]
        model = build(names=names, ignore='mask', ignore_index=65535)
        data = batch(1, classes=300)
        data['data_samples'][0].gt_sem_seg.data[:, :2] = 65535
        data['data_samples'][0].gt_sem_seg.data[:, 2:] = 299
        loss = run(model, data)['loss_ce']
        loss.backward()
        assert loss.isfinite()

        def shift(head, inputs, logits):
            return logits + 100 * (torch.arange(300) == 280).float()[:, None, None]

        model.decode_head.register_forward_hook(shift)
        (label,) = labels_of(run(model.eval(), data, 'predict'))
        assert label.eq(280).all()

    def test_classes_of_a_step(self):
        names = [f'class {i}' for i in range(30)]
        model, data = build(names=names, train_classes=6).train(), batch(classes=4)
        data['data_samples'][0].gt_sem_seg.data[:, :2] = 255
        data['data_samples'][1].gt_sem_seg.data[:] = 27
        labels = torch.cat([x.gt_sem_seg.data for x in data['data_samples']])
        inside, drawn = labels != 255, set()
        for _ in range(6):
            rows, new = model._drawn(labels)
            assert len(rows) == 6 and torch.equal(new == 255, ~inside)
            assert {0, 1, 2, 3, 27} < set(rows) and rows == sorted(rows)
            assert torch.equal(torch.tensor(rows)[new[inside]], labels[inside])
            drawn.update(rows)
        assert len(drawn) > 6  # others each time
        seen = []
        model.decode_head.register_forward_pre_hook(lambda head, x: seen.append(len(x[1])))
        run(model, data)['loss_ce'].backward()
        assert seen == [6]
        model.train_classes = 3  # those that are there are never left out
        assert len(model._drawn(labels)[0]) == 5
        data['data_samples'][0].gt_sem_seg.data[0, 5, 5] = 30
        with pytest.raises(ValueError, match='labels must be'):
            run(model, data)
        with pytest.raises(ValueError, match='train_classes'):
            build(train_classes=1)

    @pytest.mark.parametrize('finetune', ['frozen', 'full'])
    def test_texts_of_a_step(self, finetune, monkeypatch):
        from hyper_mm.models.utils import vocabulary_features

        encoded, encode = [], vocabulary_features.encode_text
        monkeypatch.setattr(
            vocabulary_features,
            'encode_text',
            lambda clip, tokens, *args: encoded.append(len(tokens)) or encode(clip, tokens, *args),
        )
        names = ['cat, kitten', 'dog', 'cat, tiger', 'sky', 'sea, water']
        classes = dict(names=names, synonyms='mean', templates=['a {}.', 'the {}.'])
        model = build(vocabulary=classes, finetune=finetune).train()
        part = model.encode_vocabulary([2, 0])
        assert encoded == [6 if finetune == 'full' else 14]  # a name that two have is encoded once
        torch.testing.assert_close(part, model.encode_vocabulary()[[2, 0]], atol=1e-6, rtol=1e-5)

    def test_label_outside_the_vocabulary(self):
        data = batch()
        data['data_samples'][1].gt_sem_seg.data[0, 0, 0] = 5
        with pytest.raises(ValueError, match=r'0..4 \(the vocabulary\) or 255.*got \[5\]'):
            run(build(), data)

    def test_ignore_index_that_is_a_class(self):
        model = build(names=[f'thing {i}' for i in range(256)])
        with pytest.raises(ValueError, match='must not be one of 256 classes, got 255'):
            run(model, batch(1))


ARMS = {
    'frozen': dict(),
    'full': dict(finetune='full'),
    'qv': dict(finetune='qv'),
    'lora': dict(adapter=dict(type='hyper_mm.LoRAAdapter', rank=2)),
    'hyperclip': dict(adapter=HYPERCLIP),
}
COUNTS = {
    'frozen': 0,
    'qv': 2 * (3 * 24**2 + 2 * 16**2),
    'lora': 3 * 2 * 2 * (3 * 24 + 2 * 16),
    'hyperclip': 3 * 8 * (3 * 24 + 2 * 16),
}


class TestArms:
    @pytest.mark.parametrize('name', ARMS)
    def test_what_is_trained(self, name):
        model = build(**ARMS[name])
        of_clip = {n: p for n, p in trained(model).items() if n.startswith('clip.')}
        count = sum(p.numel() for p in of_clip.values())
        if name == 'full':
            assert count == sum(p.numel() for p in model.clip.parameters()) - 1
        else:
            assert count == COUNTS[name]
        before = {n: p.clone() for n, p in model.named_parameters()}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        for _ in range(2):
            sum(run(model, batch()).values()).backward()
            optimizer.step()
        changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        assert changed == set(trained(model))

    @pytest.mark.parametrize('name', ['qv', 'lora', 'hyperclip'])
    def test_starts_as_frozen_clip(self, name):
        torch.manual_seed(1)
        plain = build().eval()
        model = build(**ARMS[name]).eval()
        clip = {n: p for n, p in plain.clip.state_dict().items()}
        for path, value in model.clip.state_dict().items():
            base = path.replace('parametrizations.', '').replace('.original', '')
            if base in clip:
                value.copy_(clip[base])
        model.decode_head.load_state_dict(plain.decode_head.state_dict())
        if name == 'qv':
            for path, module in plain.clip.named_modules():
                if path.endswith('attn'):
                    q, _, v = module.in_proj_weight.chunk(3)
                    parts = model.clip.get_submodule(path).parametrizations.in_proj_weight[0].parts
                    parts.data.copy_(torch.stack([q, v]))
        images = torch.randn(2, 3, SIZE, SIZE)
        torch.testing.assert_close(model(images), plain(images), rtol=1e-4, atol=1e-5)

    def test_text_gets_gradients_in_chunks(self):
        gradients = []
        for text in (dict(chunk=2, checkpoint=True), dict(chunk=99, checkpoint=False)):
            torch.manual_seed(0)
            model = build(adapter=HYPERCLIP, text=text).double()
            data = batch()
            data['inputs'] = [image.double() for image in data['inputs']]
            torch.manual_seed(0)
            images = torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64)
            model.decode_head.loss(model(images), torch.zeros(1, SIZE, SIZE))['loss_ce'].backward()
            gradients.append({n: p.grad for n, p in trained(model).items()})
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-5, atol=1e-9)
            if 'clip.transformer' in name:
                assert gradient.ne(0).any(), name


def test_taps_choose_the_blocks_that_guide_the_head():
    images, found, outputs = torch.randn(1, 3, SIZE, SIZE), {}, []
    for taps in (None, (0, 1), (1, 0)):
        torch.manual_seed(0)
        model = build(taps=taps).eval()
        for block in model.clip.visual.transformer.resblocks[:-1]:
            block.register_forward_hook(lambda _, inputs, output: outputs.append(output))
        with torch.no_grad():
            found[taps] = model(images)
            maps = model.extract_feat(images).intermediate
        for tap, x in zip(taps or (0, 1), maps):
            torch.testing.assert_close(x.flatten(2).mT, outputs[-2:][tap][:, 1:])
    assert torch.equal(found[None], found[0, 1])
    assert (found[1, 0] - found[0, 1]).abs().max() > 1e-4


class TestPredict:
    @pytest.mark.parametrize('test_cfg', [dict(mode='whole'), WINDOWS], ids=['whole', 'slide'])
    def test_images_of_a_batch_do_not_depend_on_each_other(self, test_cfg):
        """One of the images is padded."""
        model = build(test_cfg=dict(test_cfg, keep_scores=True)).eval()
        one, two = batch(1, 40, 32), batch(1, 24, 20)
        padded = F.pad(two['inputs'][0], (5, 7, 10, 6), value=3.0)
        sample = copy.deepcopy(two['data_samples'][0])
        sample.set_metainfo(dict(img_padding_size=[5, 7, 10, 6], pad_shape=(40, 32)))
        both = dict(inputs=[*one['inputs'], padded], data_samples=[*one['data_samples'], sample])
        together = run(model, both, 'predict')
        for data, sample in zip((one, two), together):
            (alone,) = run(model, data, 'predict')
            assert sample.pred_sem_seg.shape == sample.ori_shape
            torch.testing.assert_close(
                sample.seg_logits.data, alone.seg_logits.data, rtol=1e-4, atol=1e-6
            )

    def test_whole(self):
        model, data = build(test_cfg=dict(keep_scores=True)).eval(), batch(1, 40, 48)
        (sample,) = run(model, data, 'predict')
        image = F.interpolate(data['inputs'][0][None], size=(SIZE, SIZE), mode='bilinear')
        scores = F.interpolate(model(image).sigmoid(), size=(45, 45), mode='bilinear')[0]
        torch.testing.assert_close(sample.seg_logits.data, scores, rtol=1e-4, atol=1e-6)
        assert torch.equal(sample.pred_sem_seg.data[0], sample.seg_logits.data.argmax(0))

    def test_slide_global_step_by_step(self):
        model, data = build(test_cfg=dict(WINDOWS, keep_scores=True)).eval(), batch(1, 40, 56)
        (sample,) = run(model, data, 'predict')
        square = F.interpolate(data['inputs'][0][None], size=(48, 48), mode='bilinear')
        columns = F.unfold(square, 32, stride=16)[0]
        crops = columns.T.reshape(4, 3, 32, 32)
        whole = F.interpolate(square, size=(32, 32), mode='bilinear')
        scores = model(torch.cat([crops, whole]))
        scores = F.interpolate(scores, size=(32, 32), mode='bilinear').sigmoid()
        columns = scores[:4].flatten(1).T[None]
        folded = F.fold(columns, (48, 48), 32, stride=16)
        folded = folded / F.fold(torch.ones_like(columns), (48, 48), 32, stride=16)
        whole = F.interpolate(scores[4:], size=(48, 48), mode='bilinear')
        expected = F.interpolate((folded + whole) / 2, size=(45, 53), mode='bilinear')[0]
        torch.testing.assert_close(sample.seg_logits.data, expected, rtol=1e-4, atol=1e-6)
        assert torch.equal(sample.pred_sem_seg.data[0], sample.seg_logits.data.argmax(0))

    @pytest.mark.parametrize('direction, dim', [('horizontal', -1), ('vertical', -2)])
    def test_flip_is_undone(self, direction, dim):
        model = build(test_cfg=dict(keep_scores=True)).eval()
        data = batch(1)
        (plain,) = run(model, data, 'predict')
        data['data_samples'][0].set_metainfo(dict(flip=True, flip_direction=direction))
        (flipped,) = run(model, data, 'predict')
        torch.testing.assert_close(flipped.seg_logits.data, plain.seg_logits.data.flip(dim))

    def test_scores_are_left_out(self):
        assert 'seg_logits' not in run(build().eval(), batch(1), 'predict')[0]

    def test_without_samples(self):
        (sample,) = build().eval().predict(torch.randn(1, 3, 20, 24))
        assert sample.pred_sem_seg.shape == (20, 24)

    def test_encode_decode(self):
        assert build().encode_decode(torch.randn(2, 3, 20, 24)).shape == (2, 5, 20, 24)


class TestBadInput:
    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(finetune='some'), "finetune must be one of .*got 'some'"),
            (dict(finetune='full', adapter=HYPERCLIP), "needs finetune='frozen', got 'full'"),
            (
                dict(test_cfg=dict(mode='slide')),
                r"test_cfg.mode must be one of \(.whole., .slide_global.\), got 'slide'",
            ),
            (dict(test_cfg=dict(mode='whole', size=3)), r"\['size'\] need mode"),
            (dict(test_cfg=dict(WINDOWS, stride=15)), 'must cover the square'),
            (dict(taps=(0, 2)), r'taps must lie in 0..1, got \[2\]'),
            (dict(ignore='drop'), r"ignore must be one of \(.zero., .mask.\), got 'drop'"),
            (dict(text=dict(chunk=0)), 'chunk must be at least 1, got 0'),
            (dict(vocabulary=['cat', 'x ' * 80]), 'at most 77 tokens'),
            (dict(train_vocabulary=['x ' * 80]), 'at most 77 tokens'),
            (dict(vocabulary=['cat', 'cat']), 'cat'),
            (dict(vocabulary=['cat', ' ']), 'empty'),
        ],
    )
    def test_value(self, options, message):
        with pytest.raises(ValueError, match=message):
            build(**options)

    def test_adapter_without_attach(self):
        with pytest.raises(TypeError, match='method attach, got ReLU'):
            build(adapter=dict(type='ReLU'))


def test_half_precision_is_finite():
    model = build(adapter=HYPERCLIP)
    with torch.autocast('cpu', torch.bfloat16):
        loss = run(model, batch())['loss_ce']
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_what_is_trained_is_logged(caplog):
    model = build(adapter=HYPERCLIP)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            model.init_weights()
    finally:
        logger.removeHandler(caplog.handler)
    assert 'trained parameters: CLIP 2,496, head' in caplog.text
