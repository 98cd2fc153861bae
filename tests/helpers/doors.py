"""What the tests of all configs give to a model: tiny files, batches by the configs' pipelines."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement

from hyper_mm.engine.launch import innermost_datasets
from tests.helpers.small_configs import small
from tests.helpers.tools import load_tool

HEIGHT, WIDTH = 70, 90
BOX = [10.0, 12.0, 70.0, 60.0]
CHAIN = ['animal', 'mammal', 'dog', 'a small dog']
NAMES = ['ant', 'bee', 'cat', 'dog', 'elk', 'fox']


def write_files(folder: Path) -> dict[str, str]:
    """An image, a label map of two classes, and a bank of amplitudes of two domains."""
    generator = np.random.default_rng(0)
    paths = {k: str(folder / name) for k, name in dict(
        img_path='image.png', seg_map_path='label_seg.png', bank='bank.npz').items()}  # fmt: skip
    image = generator.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[::2, 10:70] = 1
    mmcv.imwrite(image, paths['img_path'])
    mmcv.imwrite(label, paths['seg_map_path'])
    amplitude = generator.random((2, 3, 33, 33)).astype(np.float32)
    np.savez(paths['bank'], amplitude=amplitude, domain=np.array(['a', 'b']))
    return paths


class Place:
    """A small config with its model, a checkpoint of it, and what both are given.

    Args:
        name: Name of the config.
        folder: Where files go.
    """

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder
        self.cfg = small(name)
        self.scope = self.cfg.default_scope
        self.files = write_files(folder)
        bank = self.files.pop('bank')
        for _, dataset in innermost_datasets(self._loader('train').get('dataset'), ''):
            for step in dataset.get('pipeline', ()):
                if 'bank' in step:
                    step.bank = bank
        self.path = str(folder / 'config.py')
        self.cfg.dump(self.path)
        torch.manual_seed(0)
        self.model = self.build()
        self.weights = str(folder / 'weights.pth')
        self.save()

    def _loader(self, split: str) -> dict:
        return self.cfg.get(f'{split}_dataloader') or {}

    @property
    def kind(self) -> str:
        """Name of the type of the model."""
        return self.cfg.model.type.rsplit('.', 1)[-1]

    def build(self, model: dict | None = None) -> BaseModel:
        """The model, as a runner builds it."""
        init_default_scope(self.scope)
        model = copy.deepcopy(self.cfg.model if model is None else model)
        preprocessor = self.cfg.get('data_preprocessor')
        if preprocessor is not None:
            model.setdefault('data_preprocessor', copy.deepcopy(preprocessor))
        built = MODELS.build(model)
        if self.kind == 'MultimodalEncoderDecoder':  # mmseg leaves memory as it is
            for parameter in built.parameters():
                torch.nn.init.normal_(parameter.data, std=0.02)
        return self.prepared(built)

    def prepared(self, model: BaseModel) -> BaseModel:
        """Does what hooks do before a run, and a user before a prediction."""
        inside = getattr(model, 'module', model)
        if hasattr(inside, 'set_vocabulary'):
            inside.set_vocabulary(NAMES)
        if getattr(inside, 'needs_frozen', False):
            from hyper_mm.models.vision_language.radial_clip import FrozenTargets

            texts = [*CHAIN, *(f'no {text}' for text in CHAIN), '']
            with torch.no_grad():
                inside.frozen = FrozenTargets(texts, inside.text_features(texts).numpy())
        if hasattr(inside, 'set_support'):
            inside.eval().set_support(self.items(2))
        return model

    def save(self) -> None:
        """Writes the checkpoint of the model as it is."""
        count = next((x for x in map(_classes, self.model.modules()) if x is not None), len(NAMES))
        names = (
            NAMES if hasattr(self.model, 'set_vocabulary') else [f'class {k}' for k in range(count)]
        )
        meta = dict(classes=names, palette=[[k % 256] * 3 for k in range(len(names))])
        state = self.model.state_dict()
        torch.save(dict(meta=dict(dataset_meta=meta), state_dict=state), self.weights)

    def pipeline(self, split: str) -> Sequence[dict]:
        """The pipeline of the data set within the wrappers."""
        datasets = innermost_datasets(self._loader(split).get('dataset'), '')
        return next(datasets)[1].get('pipeline', [])

    def items(self, count: int, split: str = 'train', pipeline: Sequence[dict] | None = None):
        """Packed items of the drawn image by the pipeline of the config."""
        init_default_scope(self.scope)
        steps = Compose(copy.deepcopy(self.pipeline(split) if pipeline is None else pipeline))
        np.random.seed(0)
        return [steps(self._info(i, steps)) for i in range(count)]

    def _info(self, index: int, steps: Compose | None = None) -> dict:
        given = [getattr(step, 'reduce_zero_label', None) for step in flat(steps)]
        x0, y0, x1, y1 = BOX
        mask = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        instance = dict(bbox=BOX, bbox_label=0, mask=mask, ignore_flag=0)
        return dict(
            self.files,
            sample_idx=index,
            img_id=index,
            img=mmcv.imread(self.files['img_path']),
            height=HEIGHT,
            width=WIDTH,
            instances=[instance],
            gt_label=index % 2,
            domain='a',
            label_map=None,
            segments_info=[dict(id=0x010101, category=0, is_thing=True)],  # of label_seg.png
            reduce_zero_label=any(given),
            seg_fields=[],
            task='hierarcaps',
            texts=CHAIN,
            negatives=[f'no {text}' for text in CHAIN],
        )

    def batch(self, training: bool) -> dict | list:
        """What a data loader would give the model."""
        if self.kind == 'HelmForCausalLM':
            ids = torch.randint(2, 97, (2, 12))
            return dict(input_ids=ids, doc_ids=torch.zeros_like(ids))
        if self.kind == 'RadialCLIP':
            samples = [BaseDataElement(metainfo={k: v for k, v in self._info(i).items()
                       if k in ('texts', 'negatives')}) for i in range(2)]  # fmt: skip
            return dict(inputs=[None, None], data_samples=samples)
        if hasattr(self.model, 'tasks') or hasattr(getattr(self.model, 'model', None), 'tasks'):
            return self._mixed()
        split = 'train' if 'train_dataloader' in self.cfg else 'test'
        items = self.items(2 if training else 1, split if training else 'test')
        episodic = 'Episode' in str(self._loader(split).get('dataset', {}).get('type'))
        if training and episodic:
            for i, item in enumerate(items):  # classes that differ
                item['inputs'] = item['inputs'].roll(9 * i, -1)
            return pseudo_collate([dict(support=items, query=items[::-1])])
        return pseudo_collate(items)

    def _mixed(self) -> list:
        """An episode of each task."""
        from hyper_mm.datasets.mixed_episodes import Episode

        episodes = []
        for path, dataset in innermost_datasets(self.cfg.train_dataloader.dataset, ''):
            task = path.split('.')[2]
            init_default_scope(dataset['_scope_'])
            parts = []
            for _ in range(2):
                steps = Compose(copy.deepcopy(dataset['pipeline']))
                items = [steps(self._info(i, steps)) for i in range(2)]
                for item in items:
                    item['data_samples'].set_metainfo(dict(task=task))
                parts.append(dict(pseudo_collate(items), task=task))
            episodes.append(Episode(*parts))
        init_default_scope(self.scope)
        return episodes

    def predict(self, model: BaseModel) -> list:
        """Predictions of a test batch, with the same random numbers each time."""
        torch.manual_seed(1)
        model.eval()
        with torch.no_grad():
            return model.test_step(self.batch(False))

    def augmented(self) -> Config:
        """The config that ``tools/test.py --tta`` makes of this one."""
        cfg = Config.fromfile(self.path)
        load_tool('test.py').use_tta(cfg)
        return cfg


def flat(steps: object) -> list:
    """Transforms of a pipeline, with those within others."""
    inside = getattr(steps, 'transforms', getattr(steps, 'subroutines', steps)) or ()
    if not isinstance(inside, (list, tuple)):
        return [steps]
    return [steps, *(step for part in inside for step in flat(part))]


def _classes(module: torch.nn.Module) -> int | None:
    return getattr(module, 'num_classes', None)


def tensors(value: object) -> list[torch.Tensor]:
    """All tensors of predictions, in a fixed order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, np.ndarray):
        return [torch.from_numpy(value)]
    if isinstance(value, BaseDataElement):
        value = dict(value.items())
    if isinstance(value, dict):
        return [t for key in sorted(value) for t in tensors(value[key])]
    return [t for part in value for t in tensors(part)] if isinstance(value, (list, tuple)) else []
