"""Every code block of README.md and docs/ runs as it is printed, or says why it does not."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from collections import Counter

import pytest
import torch

for library in ('mmseg', 'mmdet', 'mmpretrain'):
    pytest.importorskip(library)

from mmengine.config import Config, ConfigDict  # noqa: E402
from mmengine.logging import HistoryBuffer  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import MODELS as ROOT  # noqa: E402
from mmengine.registry import DefaultScope, init_default_scope  # noqa: E402

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.engine.launch import parse_options  # noqa: E402
from hyper_mm.near_misses import arguments_of  # noqa: E402
from hyper_mm.registry import COMPONENTS, MODELS, load_component  # noqa: E402
from tests.conftest import REPO  # noqa: E402
from tests.helpers.documents import DOCUMENTS, blocks, commands, without_ellipses  # noqa: E402
from tests.helpers.doors import Place, tensors, write_files  # noqa: E402
from tests.helpers.runs import random_batch  # noqa: E402
from tests.helpers.small_configs import dicts  # noqa: E402

OFFLINE = "pretrained='openai'", 'pretrained=None'
"""Public weights need a network: random ones take their place."""
NOT_RUN = {'helm.md': 1}
"""How many blocks of a document say that they are not run."""
SCOPES = dict(ImageClassifier='mmpretrain', MaskRCNN='mmdet')
COMPLETE = ('decode_head', 'head', 'rpn_head', 'decoder', 'prompts', 'loss')
"""Keys of which a printed model has one, where it is whole."""
PYTHON = [p for p in DOCUMENTS if any(b.language == 'python' for b in blocks(p))]
SHELL = [p for p in DOCUMENTS if any(b.is_shell for b in blocks(p))]


def test_blocks_that_are_not_run_are_counted():
    found = {p.name: Counter(b.reason is not None for b in blocks(p))[True] for p in DOCUMENTS}
    assert {name: count for name, count in found.items() if count} == NOT_RUN
    assert {b.language for p in DOCUMENTS for b in blocks(p)} <= {'', 'sh', 'bash', 'python'}


def write_weights(name: str, path) -> None:
    """A checkpoint as a run writes it, of a small model, with its config."""
    path.parent.mkdir(parents=True)
    place = Place(name, path.parent)
    checkpoint = torch.load(place.weights, weights_only=True)
    checkpoint['meta']['cfg'] = place.cfg.pretty_text
    checkpoint['message_hub'] = dict(log_scalars=dict(loss=HistoryBuffer([1.0], [1])))
    torch.save(checkpoint, path)


def write_tokens(folder) -> None:
    """What a folder of token ids says of itself."""
    from hyper_mm.datasets.text_tokenizers import CompactTokenizer, OpenClipTokenizer

    base = OpenClipTokenizer()
    needed = [*base.encode('animal => dog'), base.bos_id, base.eos_id]
    ids = sorted(list(dict.fromkeys([*needed, *range(7691)]))[:7691])
    tokenizer = CompactTokenizer(base, ids)
    folder.mkdir(parents=True)
    splits = dict(train=dict(tokens=9))
    meta = dict(dtype='uint16', splits=splits, tokenizer=base.spec, original_ids=ids)
    meta.update({k: getattr(tokenizer, k) for k in ('vocab_size', 'bos_id', 'eos_id')})
    (folder / 'meta.json').write_text(json.dumps(meta))


def prepare(name: str, folder, monkeypatch) -> dict:
    """What the reader of a document has: files, and the values that its text speaks of."""
    for link in ('configs', 'tools'):
        (folder / link).symlink_to(REPO / link)
    monkeypatch.chdir(folder)
    if name == 'README.md':
        work = folder / 'work_dirs/himapper_deit-s_ade20k'
        write_weights('himapper_deit-s_ade20k.py', work / 'iter_160000.pth')
    if name == 'helm.md':
        write_tokens(folder / 'data/hierarcaps_tokens')
        model = MODELS.build(Config.fromfile('configs/helm/helm-mice_mini_hierarcaps.py').model)
        work = folder / 'work_dirs/helm-mice_mini_hierarcaps'
        work.mkdir(parents=True)
        torch.save(dict(state_dict=model.state_dict()), work / 'iter_400.pth')
        return dict(prompt=torch.randint(2, 90, (1, 5)))
    if name == 'lathadapter.md':
        unit = torch.nn.functional.normalize
        labels = torch.randint(100, (8,))
        features = dict(image=unit(torch.randn(8, 512)), text=unit(torch.randn(100, 512)))
        return dict(features, labels=labels, MODELS=MODELS)
    if name == 'meta_segmentation.md':
        from mmseg.apis import inference_model, init_model

        (folder / 'place').mkdir()
        place = Place('metaseg/protonet_unet_nuclei.py', folder / 'place')
        return dict(
            init_model=functools.partial(init_model, device='cpu'),
            inference_model=inference_model,
            checkpoint=place.weights,
            dataset=place.items(2),
            image=write_files(folder)['img_path'],
        )
    return {}


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('path', PYTHON, ids=lambda path: path.stem)
def test_python(path, tmp_path, monkeypatch):
    if path.name == 'deploy.md':
        for name in ('onnx', 'onnxscript', 'onnxruntime'):
            pytest.importorskip(name)
    with DefaultScope.overwrite_default_scope('mmseg'):
        space = prepare(path.name, tmp_path, monkeypatch)
        before = {**space}
        for block in blocks(path):
            if block.language != 'python' or block.reason is not None:
                continue
            code = without_ellipses(block.text) if '=dict(' in block.text else block.text
            code = code.replace(*OFFLINE)
            space.pop('_base_', None)
            held = space.get('model')
            exec(compile(code, str(path), 'exec'), space)
            if isinstance(space.get('model'), dict):
                check_config({k: v for k, v in space.items() if k not in before}, tmp_path)
                space['model'] = held
    if path.name == 'deploy.md':
        files = {'unet.onnx', 'unet18.onnx', 'unet.pt2', 'dense.onnx'}
        assert files <= {file.name for file in tmp_path.iterdir()}


def check_config(values: dict, folder) -> None:
    """Names and arguments of components of ours are known; a whole model is built."""
    values = {k: v for k, v in values.items() if isinstance(v, (dict, list))}
    for part in dicts(values):
        part.pop('_delete_', None)
        kind = str(part.get('type'))
        if kind.startswith('hyper_mm.'):
            check_arguments(kind.removeprefix('hyper_mm.'), part)
    model = ConfigDict(values['model'])
    if 'vocabulary' in model:
        Vocabulary.load(model.vocabulary)
    if not any(key in model for key in COMPLETE) or None in [*model.values()][:1]:
        model = model.get('neck') or model.get('auxiliary_head')
    if model is None or any(str(v) == 'None' for p in dicts(model) for v in p.values()):
        return
    kind = model.type.rsplit('.', 1)[-1]
    scope = SCOPES.get(kind, 'mmdet' if kind == 'HiMapper' and 'neck' in model else 'mmseg')
    with DefaultScope.overwrite_default_scope(scope):
        init_default_scope(scope)
        for part in dicts(model):
            if 'pretrained' in part:
                part['pretrained'] = ''
        assert isinstance(ROOT.build(model), torch.nn.Module)


def check_arguments(name: str, part: dict) -> None:
    """Names of arguments are those of the class, or of one that it hands them on to."""
    for components in COMPONENTS.values():
        if name in components:
            kind = load_component(name, *components[name])
            given = {k: v for k, v in part.items() if k != '_scope_'}
            if set(given) - {'type'} - arguments_of(kind):
                MODELS.build(given)
            return
    assert MODELS.get(f'hyper_mm.{name}') is not None, name


@pytest.fixture
def first_config(tmp_path) -> Config:
    """The first config of the README, as printed."""
    block = next(b for b in blocks(REPO / 'README.md') if b.language == 'python')
    (tmp_path / 'config.py').write_text(block.text)
    return Config.fromfile(tmp_path / 'config.py')


def test_first_config_of_the_readme_reads_no_file(first_config):
    for part in dicts(first_config.model):
        assert not part.get('pretrained') and not part.get('checkpoint')


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_first_config_of_the_readme_starts(first_config):
    """Built, initialized and trained one step as printed, without a network."""
    cfg = first_config
    with DefaultScope.overwrite_default_scope('mmseg'):
        init_default_scope('mmseg')
        model = MODELS.build(cfg.model).train()
        model.init_weights()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        images, samples = random_batch(64, 150)
        data = dict(inputs=[*(images * 60 + 120)], data_samples=samples)
        losses = model.train_step(data, wrapper)
    assert 'loss_hier_cont' in losses
    assert all(x.isfinite().all() for x in tensors(losses))


def test_hint_of_the_readme_leaves_weights_out():
    """The option for machines without a network is the one that the configs read."""
    text = (REPO / 'README.md').read_text(encoding='utf-8')
    hint = text.split('Where there is no network, add')[1].split('`')[1]
    cfg = Config.fromfile(REPO / 'configs/himapper_deit-s_ade20k.py')
    assert cfg.model.backbone.init_cfg.checkpoint
    cfg.merge_from_dict(parse_options(hint.split()[1:]))
    assert cfg.model.backbone.init_cfg is None
    assert not any('checkpoint' in part for part in dicts(cfg.model))


@pytest.mark.parametrize('path', SHELL, ids=lambda path: path.stem)
def test_shell(path):
    """Scripts and configs exist, and scripts know the options."""
    for block in blocks(path):
        if not block.is_shell or block.reason is not None:
            continue
        assert commands(block)
        for program, *words in commands(block):
            if program == 'make':
                target = next(word for word in words if '=' not in word)
                assert f'\n{target}:' in (REPO / 'Makefile').read_text(encoding='utf-8')
                continue
            if program == 'pip':
                assert words[0] == 'install'
                continue
            assert program in ('python', 'bash'), (program, words)
            if words[0] == '-m':
                assert importlib.util.find_spec(words[1]), words
                continue
            script = REPO / words[0]
            assert script.is_file(), words[0]
            for word in words[1:]:
                if word.startswith('configs/'):
                    assert (REPO / word).is_file(), word
            if program == 'python':
                known = options_of(script)
                given = {w.split('=')[0] for w in words[1:] if w.startswith('--')}
                assert given <= known, (words[0], given - known)


def options_of(script) -> set[str]:
    """Options that the help of a script names."""
    if script not in _OPTIONS:
        command = [sys.executable, str(script), '--help']
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        words = done.stdout.replace(',', ' ').replace('[', ' ').replace(']', ' ').split()
        _OPTIONS[script] = {word for word in words if word.startswith('--')}
    return _OPTIONS[script]


_OPTIONS: dict = {}
