import csv
import pickle

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('open_clip')

from mmengine.config import Config  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from mmengine.structures import BaseDataElement  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.models.vision_language.radial_clip import FrozenTargets, RadialCLIP  # noqa: E402

CLIP = dict(
    model=dict(
        embed_dim=16,
        quick_gelu=True,
        vision_cfg=dict(image_size=32, layers=1, width=32, head_width=16, patch_size=16),
        text_cfg=dict(context_length=77, vocab_size=49408, width=16, heads=2, layers=1),
    )
)
ADAPTER = dict(type='hyper_mm.HyperCLIPAdapter', block_size=8, towers=('text',))
CHAIN = ['thing', 'cup', 'red cup', 'A red cup on a table.']
HEADER = 'WORD1 WORD2 POS TYPE AVG_SCORE'
OTHER = ['animal', 'dog', 'small dog', 'A small dog on a sofa.']
NO_TARGETS = dict(type='hyper_mm.RadialEmbeddingLoss', lambda_reg=0.0)


def chains(count=3):
    return [
        BaseDataElement(metainfo=dict(texts=[f'{t} {i}' for t in CHAIN], negatives=OTHER))
        for i in range(count)
    ]


def train_step(model, samples):
    model.zero_grad()
    losses = model([None] * len(samples), samples, mode='loss')
    model.parse_losses(losses)[0].backward()
    return losses


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


class TestRadialCLIP:
    def test_trains_the_whole_text_tower_and_nothing_else(self):
        model = RadialCLIP(CLIP, NO_TARGETS)
        losses = train_step(model, chains())
        assert set(losses) == {'loss_mean', 'loss_hard', 'radial/tau_d'}
        assert not any('visual' in name or 'logit' in name for name in trained(model))
        for name, parameter in model.named_parameters():
            moved = parameter.grad is not None and bool((parameter.grad != 0).any())
            assert moved == (name in trained(model)), name

    def test_trains_the_adapter_alone(self):
        model = RadialCLIP(CLIP, NO_TARGETS, adapter=ADAPTER)
        train_step(model, chains())
        blocks = list(model.adapter.parameters())
        assert len(trained(model)) == len(blocks) == 3
        assert all((block.grad != 0).any() for block in blocks)

    def test_the_root_has_a_gradient_and_one_pass_serves_all(self, monkeypatch):
        model = RadialCLIP(CLIP, NO_TARGETS)
        calls, roots = [], []
        text_features, loss = model.text_features, model.radial_loss.forward
        monkeypatch.setattr(
            model, 'text_features', lambda texts: calls.append(texts) or text_features(texts)
        )

        def record(embeddings, root, frozen):
            root.retain_grad()
            roots.append(root)
            return loss(embeddings, root, frozen)

        monkeypatch.setattr(model.radial_loss, 'forward', record)
        train_step(model, chains())
        assert [len(texts) for texts in calls] == [3 * 8 + 1]
        assert calls[0][-1] == '' and calls[0][0] == 'thing 0' and calls[0][12] == 'animal'
        assert (roots[0].grad != 0).any()

    def test_regulariser_begins_at_zero_and_needs_targets(self):
        model = RadialCLIP(CLIP)
        with pytest.raises(ValueError, match='FrozenTargetsHook'):
            train_step(model, chains())
        texts = sorted({t for s in chains() for t in (*s.texts, *s.negatives)})
        with torch.no_grad():
            model.frozen = FrozenTargets(texts, model.text_features(texts).numpy())
        assert abs(train_step(model, chains())['loss_reg'].item()) < 1e-5
        model.frozen = FrozenTargets(texts[1:], model.frozen.features[1:])
        with pytest.raises(ValueError, match='not computed for the text'):
            train_step(model, chains())

    def test_predicts_features_with_and_without_images(self):
        model = RadialCLIP(CLIP, NO_TARGETS).eval()
        samples = [BaseDataElement(metainfo=dict(texts=texts)) for texts in (CHAIN, OTHER[:2])]
        image = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
        with torch.no_grad():
            first, second = model([None, image], samples, mode='predict')
            expected = model.clip.encode_image((image.flip(0)[None] - model.mean) / model.std)[0]
            features = model([None, None], samples, mode='tensor')
        torch.testing.assert_close(second.image_feature, expected)
        assert 'image_feature' not in first
        torch.testing.assert_close(first.text_features, features[:4])
        torch.testing.assert_close(second.root, features[-1])

    def test_classifies_images_without_texts(self):
        model = RadialCLIP(CLIP, NO_TARGETS, templates=['a {}.', 'one {}.']).eval()
        images = [torch.randint(256, (3, 32, 32), dtype=torch.uint8) for _ in range(2)]
        samples = [BaseDataElement(gt_label=1), BaseDataElement(metainfo=dict(texts=CHAIN))]
        model.set_vocabulary(['cup', 'oak_tree', 'dog'])
        with torch.no_grad():
            first, second = model(images, samples, mode='predict')
            prompts = [f'{a} {b}.' for b in ('cup', 'oak tree', 'dog') for a in ('a', 'one')]
            texts = normalize(model.text_features(prompts), dim=-1).view(3, 2, -1).mean(1)
            cosine = normalize(texts, dim=-1) @ normalize(first.image_feature, dim=-1)
        expected = (cosine * model.clip.logit_scale.exp()).softmax(-1).detach()
        torch.testing.assert_close(first.pred_score, expected)
        assert 'pred_score' not in second and second.text_features.shape == (4, 16)

    def test_bad_classes(self):
        model = RadialCLIP(CLIP, NO_TARGETS).eval()
        image = torch.zeros(3, 32, 32)
        with pytest.raises(ValueError, match='DatasetVocabularyHook'):
            model([image], [BaseDataElement()], mode='predict')
        with pytest.raises(ValueError, match='must be there once'):
            model.set_vocabulary(['cup', 'cup'])
        model.set_vocabulary(Vocabulary.of_dataset(['cup', 'cup']))  # a data set may have two
        model.set_vocabulary(['cup', 'dog'])
        with pytest.raises(ValueError, match='texts or an image, got neither'):
            model([None], [BaseDataElement()], mode='predict')

    def test_bad_inputs(self):
        with pytest.raises(ValueError, match='chunk'):
            RadialCLIP(CLIP, chunk=0)
        with pytest.raises(ValueError, match=r"towers must be \('text',\)"):
            RadialCLIP(CLIP, adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=8))
        model = RadialCLIP(CLIP, NO_TARGETS)
        with pytest.raises(ValueError, match='needs negatives'):
            train_step(model, [BaseDataElement(metainfo=dict(texts=CHAIN))])
        for key in ('texts', 'negatives'):
            odd = dict(texts=CHAIN, negatives=OTHER, where='a.csv, row 3')
            odd = BaseDataElement(metainfo={**odd, key: [*odd[key], 'more']})
            with pytest.raises(ValueError, match='a.csv, row 3: all chains.*as many tiers, 4'):
                train_step(model, [*chains(), odd])
        long = BaseDataElement(
            metainfo=dict(texts=[*CHAIN[:3], 'cup ' * 80], negatives=OTHER, where='a.csv, row 17')
        )
        for mode in ('loss', 'predict'):
            with pytest.raises(
                ValueError, match='a.csv, row 17: a text must have at most 77 tokens'
            ):
                model([None] * 4, [*chains(), long], mode=mode)
        cutting = RadialCLIP(CLIP, NO_TARGETS, truncate=True)
        assert train_step(cutting, [*chains(), long])['loss_mean'].isfinite()
        cut, short = cutting._tokens(['cup ' * 80, '']), model._tokens(['', 'cup'])
        assert torch.equal(cut[1], short[0])
        assert cut[0, -1] == short[0, 1]  # the end token
        with pytest.raises(ValueError, match='mode'):
            model([None], chains(1), mode='train')
        with pytest.raises(ValueError, match=r'images must be \(3, 32, 32\)'):
            model([torch.zeros(3, 8, 8)], chains(1), mode='predict')


def write_data(folder):
    (folder / 'hierarcaps' / 'images').mkdir(parents=True)
    (folder / 'hyperlex').mkdir()
    rng = np.random.default_rng(0)
    for name, columns in (('train', ('positive', 'negative')), ('test', ('captions', 'image_url'))):
        with open(folder / 'hierarcaps' / f'{name}.csv', 'w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for i in range(6):
                chain = ' => '.join(f'{text} {i}' for text in CHAIN)
                writer.writerow((chain, ' => '.join(OTHER) if name == 'train' else f'x/{i}.jpg'))
                image = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / 'hierarcaps' / 'images' / f'{i}.jpg'), image)
    lines = [
        'WORD1 WORD2 POS TYPE AVG_SCORE',
        'dog animal N h 6',
        'cup dog N h 0.2',
        'cat cup N h 1',
    ]
    (folder / 'hyperlex' / 'hyperlex-all.txt').write_text('\n'.join(lines))


@pytest.fixture
def config(tmp_path, monkeypatch, repo):
    monkeypatch.setenv('HYPER_MM_DATA', str(tmp_path / 'data'))
    write_data(tmp_path / 'data')

    def make(name='radial/radial_clip-b32_hierarcaps.py', **options):
        cfg = Config.fromfile(repo / 'configs' / name)
        cfg.model.clip = CLIP
        cfg.train_dataloader.dataset.ann_file = 'train.csv'
        cfg.train_dataloader.batch_size = 3
        cfg.val_dataloader.dataset.datasets[0].ann_file = 'test.csv'
        cfg.val_dataloader.dataset.datasets[0].pipeline[1].scale = (32, 32)
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.update(num_workers=0, persistent_workers=False)
        cfg.test_dataloader = cfg.val_dataloader
        cfg.work_dir = str(tmp_path / 'work')
        cfg.experiment_name = name
        if 'adapter' in cfg.model:
            cfg.model.adapter.block_size = 8
        cfg.merge_from_dict(options)
        return cfg

    return make


@pytest.mark.parametrize(
    'name',
    [
        'radial/radial_clip-b32_hierarcaps.py',
        pytest.param('radial/radial-cone_clip-b32_hierarcaps.py', marks=pytest.mark.slow),
        pytest.param('radial/radial-adapter_clip-b32_hierarcaps.py', marks=pytest.mark.slow),
    ],
)
def test_whole_run(config, name, tmp_path):
    runner = Runner.from_cfg(config(name, **{'optim_wrapper.optimizer.lr': 1e-3}))
    runner.train()
    found = runner.message_hub.log_scalars
    for score in ('hierarcaps/precision', 'hierarcaps/tau_d', 'hyperlex/rho_nouns'):
        assert np.isfinite(found[f'val/{score}'].current())
    drift = found['train/loss_reg'].data[0]
    assert drift[0] + 1e-5 >= 0 and drift[-1] > 1e-5  # targets are those before training
    (file,) = (tmp_path / 'work' / 'frozen_targets').glob('*.npy')
    assert np.load(file).shape == (6 * 4 + 4, 16)


def small(cfg, folder):
    """The config of a test with the small model."""
    cfg.model.clip = CLIP
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.work_dir, cfg.experiment_name = str(folder / 'work'), folder.name
    return cfg


def small_images(cfg):
    edge, crop = cfg.test_dataloader.dataset.pipeline[1:3]
    edge.scale = crop.crop_size = 32


def test_retrieval_on_coco_as_configured(repo, data_dir, tmp_path):
    if not (data_dir / 'coco_mini').is_dir():
        pytest.skip('no coco_mini in the data folder')
    cfg = small(Config.fromfile(repo / 'configs' / 'radial/radial_clip-b32_coco.py'), tmp_path)
    small_images(cfg)
    cfg.test_dataloader.dataset.update(
        data_root=str(data_dir / 'coco_mini'),
        ann_file='annotations/captions_val2017.json',
        data_prefix=dict(img_path='val2017'),
        indices=20,
    )
    found = Runner.from_cfg(cfg).test()
    assert set(found) == {f'coco/{d}_R@{k}' for d in ('i2t', 't2i') for k in (1, 5, 10)}
    assert 0 <= found['coco/t2i_R@1'] <= found['coco/t2i_R@10'] < 1


@pytest.mark.mmpretrain
def test_names_of_breeds_as_configured(repo, data_dir, tmp_path):
    pytest.importorskip('mmpretrain')
    if not (data_dir / 'imagenet_sample').is_dir():
        pytest.skip('no imagenet_sample in the data folder')
    cfg = small(Config.fromfile(repo / 'configs' / 'radial/radial_clip-b32_breeds.py'), tmp_path)
    small_images(cfg)
    cfg.test_dataloader.dataset.data_root = str(data_dir / 'imagenet_sample')
    found = Runner.from_cfg(cfg).test()
    assert found['breeds/R@1'] == 0  # one text is not both names
    assert 0 <= found['breeds/R@5'] <= found['breeds_mean/R@5'] < 1


@pytest.mark.mmpretrain
@pytest.mark.parametrize('name', ['cifar10', 'cifar100'])
def test_classes_of_cifar_as_configured(repo, tmp_path, monkeypatch, name):
    datasets = pytest.importorskip('mmpretrain.datasets')
    kind = getattr(datasets, name.upper())
    for files in ('train_list', 'test_list'):  # only what the test writes, without its checksum
        monkeypatch.setattr(kind, files, [(kind.test_list[0][0], None)])
    cfg = small(
        Config.fromfile(repo / 'configs' / 'radial' / f'radial_clip-b32_{name}.py'), tmp_path
    )
    cfg.test_dataloader.dataset.update(data_root=str(tmp_path), download=False)
    cfg.test_dataloader.dataset.pipeline[2].scale = (32, 32)
    runner = Runner.from_cfg(cfg)
    image = torch.zeros(3, 32, 32)
    image[2] = 200  # blue, green, red
    model, classes = runner.model, kind.METAINFO['classes']
    model.set_vocabulary(classes)
    with torch.no_grad():
        (sample,) = model([image], [BaseDataElement()], mode='predict')
    label, model.vocabulary = sample.pred_score.argmax().item(), None
    pixels = image.flip(0)[None].repeat(8, 1, 1, 1).numpy().astype(np.uint8)  # red first
    labels = [label] * 6 + [(label + 1) % len(classes)] * 2
    key = 'labels' if name == 'cifar10' else 'fine_labels'
    (tmp_path / kind.base_folder).mkdir()
    batch = pickle.dumps({'data': pixels.reshape(8, -1), key: labels})
    (tmp_path / kind.base_folder / kind.test_list[0][0]).write_bytes(batch)
    found = runner.test()
    assert found['accuracy/top1'] == 75
    torch.testing.assert_close(runner.test_loop.dataloader.dataset[0]['inputs'].float(), image)
    assert model.classes.shape == (len(classes), 16)


def test_a_caption_that_is_too_long_is_refused_before_training(config, tmp_path):
    file = tmp_path / 'data' / 'hierarcaps' / 'train.csv'
    file.write_text(file.read_text().replace('A red cup on a table. 4', 'cup ' * 80))
    with pytest.raises(ValueError, match='train.csv, row 5: a text must have at most 77 tokens'):
        Runner.from_cfg(config(**{'model.truncate': False})).train()
    assert not list((tmp_path / 'work').glob('**/*.npy'))


def test_a_training_set_without_negatives_is_refused(config):
    test_set = config().val_dataloader.dataset.datasets[0]
    cfg = config()
    cfg.train_dataloader.dataset = test_set
    with pytest.raises(ValueError, match='test.csv, row 1: training needs negatives'):
        Runner.from_cfg(cfg).train()
