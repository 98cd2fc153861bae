"""Arms of the experiment of run_metaseg.py: data of the domains, and the config of each run."""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'metaseg/unet_nuclei.py'
NUCLEI = ('fluorescence', 'stained_light', 'brightfield', 'stained_tissue')
DOMAINS = {
    **{name: tuple(other for other in NUCLEI if other != name) for name in NUCLEI},
    'membrane': NUCLEI,
    'chasedb1': ('drive',),
    'drive': ('chasedb1',),
}
"""What may be left out, and what is trained on then."""
OTHER_STRUCTURE = ('membrane',)
"""Targets of which the training domains show another structure: for adaptation alone."""
ARMS = {
    'plain': '6 images a step',
    'strong augmentation': '6 images, random color, contrast, gray, scale and rotation',
    'frequency mix': '6 images, each with probability 1/2 in the low frequencies of another',
    'episodes': '2 images, and the same mixed; 2 pass twice, in the inner and the outer step',
    'episodes, boundary': 'the same, and boundary contrast',
    'MAML': '2 tasks of 1 image in each of 2 inner steps and 1 of the query; and second order',
    'FOMAML': '2 tasks of 1 image in each of 2 inner steps and 1 of the query',
    'Reptile': '2 tasks of 1 image in each of 3 inner steps',
    'prototypes': '2 tasks of 1 image and 2 of the query',
}
"""Arms, and the six images that pass backwards in a step."""
ADAPTED = ('MAML', 'FOMAML', 'Reptile', 'prototypes')
RATES = (0.03, 0.1, 0.3)
"""Rates of fine-tuning; all are reported."""
LR, INNER_LR = 3e-3, 0.1
SHOTS, QUERIES = (1, 5), 8
CROP, TEST_CROP, BAND = 96, 128, 0.02
CHANNELS, STAGES = 8, 4
STRONG = [
    dict(type='RandomRotate', prob=0.5, degree=90.0, seg_pad_val=255),
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=64,
        contrast_range=(0.4, 1.8),
        saturation_range=(0.2, 1.8),
        hue_delta=90,
    ),
    dict(type='RandomGrayscale', prob=0.3, keep_channels=True),
]


def place(domain: str) -> tuple[Path, str, str]:
    """Folder of a domain, and its folders of images and of labels."""
    data = Path(os.environ.get('HYPER_MM_DATA', 'data'))
    if domain in ('drive', 'chasedb1'):
        return data / 'fundus_vessel' / domain, 'images', 'labels'
    root = data if domain == 'membrane' else data / 'nuclei'
    return root / domain, 'images', 'annotations'


def dataset(domains: tuple[str, ...], split: str, pipeline: list[dict]) -> dict:
    """Config of the images of some domains of one set.

    Args:
        domains: Their names.
        split: ``'train'``, or ``''`` for all images.
        pipeline: Of transforms.
    """
    root, images, labels = place(domains[0])
    fundus = root.parent.name == 'fundus_vessel'
    inside = '' if fundus else f'/{split}'
    return dict(
        type='hyper_mm.SiteSegDataset',
        data_root=str(root.parent),
        sites=list(domains),
        split=split if fundus and split else None,
        data_prefix=dict(img_path=images + inside, seg_map_path=labels + inside),
        metainfo=dict(classes=('background', 'foreground')),
        pipeline=pipeline,
    )


def evenly(domains: tuple[str, ...], pipeline: list[dict]) -> dict:
    """Config of the training images of some domains, the small ones repeated."""
    sizes = {}
    for name in domains:
        root, images, _ = place(name)
        sizes[name] = len(list((root / images).rglob('*.jpg')))
        if not sizes[name]:
            raise FileNotFoundError(f'no images in {root / images}; set HYPER_MM_DATA')
    parts = [
        dict(
            type='RepeatDataset',
            times=max(round(max(sizes.values()) / sizes[name]), 1),
            dataset=dataset((name,), 'train', pipeline),
        )
        for name in domains
    ]
    return dict(type='ConcatDataset', datasets=parts)


def episodes(data: dict, shots: int, queries: int, count: int, single: bool = True) -> dict:
    """Config of episodes of one domain each; ``single`` for a test on one domain."""
    sizes = dict(k_shot=shots, n_query=queries, num_episodes=count, allow_single_domain=single)
    return dict(type='hyper_mm.EpisodeDataset', by='domain', dataset=data, **sizes)


def build_config(target: str, arm: str, seed: int, args: argparse.Namespace):
    """Config of the training of an arm.

    Args:
        target: Domain left out.
        arm: Name of the arm.
        seed: Seed of the run.
        args: What :func:`parse_args` gives.

    Returns:
        The config, with the segmentor inside all wrappers as ``segmentor``.
    """
    from mmengine.config import Config

    cfg = Config.fromfile(CONFIG, format_python_code=False)  # formatting takes seconds a run
    segmentor = cfg.segmentor.to_dict()
    per_stage = {name: (1,) * STAGES for name in ('strides', 'enc_dilations')}
    segmentor['backbone'].update(
        base_channels=CHANNELS, num_stages=STAGES, enc_num_convs=(2,) * STAGES,
        dec_num_convs=(2,) * (STAGES - 1), downsamples=(True,) * (STAGES - 1),
        dec_dilations=(1,) * (STAGES - 1), **per_stage,
    )  # fmt: skip
    last = dict(in_channels=CHANNELS, channels=CHANNELS, in_index=STAGES - 1)
    segmentor['decode_head'].update(last)
    size = 512 if target in ('drive', 'chasedb1') else 256
    resize = dict(
        type='RandomResize',
        scale=(size, size),
        ratio_range=(0.5, 2.0) if arm == 'strong augmentation' else (0.75, 1.5),
        keep_ratio=True,
    )
    crop = dict(type='RandomCrop', crop_size=(CROP, CROP), cat_max_ratio=0.95)
    flip = dict(type='RandomFlip', prob=0.5)
    pack = cfg.train_pipeline[-1]
    pipeline = [*cfg.train_pipeline[:2], resize, crop, flip]
    sources, model, batch = DOMAINS[target], segmentor, 6
    mix = dict(type='hyper_mm.FrequencyAmplitudeMix', band=BAND, bank=str(args.banks[target]))
    if arm == 'strong augmentation':
        pipeline += STRONG
    elif arm == 'frequency mix':
        pipeline.append(dict(type='RandomApply', transforms=[dict(mix, key='img')], prob=0.5))
    elif arm.startswith('episodes'):
        batch, pack = 2, dict(pack, type='hyper_mm.PackEpisodicSegInputs')
        pipeline.append(mix)
        model = dict(type='hyper_mm.EpisodicSegmentor', model=segmentor, inner_lr=1e-3)
        if arm == 'episodes, boundary':
            model['boundary'] = dict(temperature=0.05, loss_weight=0.1)
    pipeline.append(pack)
    if arm in ADAPTED:
        batch, queries = 2, 2 if arm == 'prototypes' else 1
        data = episodes(dataset(sources, 'train', pipeline), 1, queries, 100000, single=False)
    else:
        data = evenly(sources, pipeline)
    if arm == 'prototypes':
        head = dict(type='hyper_mm.PrototypicalHead', in_index=STAGES - 1)
        segmentor['decode_head'] = head
        model = dict(type='hyper_mm.PrototypicalSegmentor', model=segmentor)
    elif arm in ADAPTED:
        steps = 3 if arm == 'Reptile' else 2
        model = learner(segmentor, arm.lower(), INNER_LR, steps, args.steps)
    cfg.segmentor, cfg.model = segmentor, model
    cfg.train_dataloader.dataset = data
    cfg.train_dataloader.update(batch_size=batch, num_workers=0, persistent_workers=False)
    cfg.optim_wrapper.optimizer.lr = LR
    cfg.train_cfg.update(max_iters=args.iterations)
    cfg.param_scheduler[0].end = args.iterations
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_evaluator = dict(type='hyper_mm.FewShotIoUMetric')
    cfg.test_dataloader.update(num_workers=0)
    cfg.randomness, cfg.launcher = dict(seed=seed), 'none'
    cfg.work_dir = str(run_folder(target, arm, seed, args))
    return cfg


def learner(segmentor: dict, algorithm: str, lr: float, inner_steps: int, test_steps: int) -> dict:
    """Config of a meta-learner."""
    return dict(
        type='hyper_mm.MetaLearner', model=segmentor, algorithm=algorithm, inner_lr=lr,
        inner_steps=inner_steps, test_steps=test_steps,
    )  # fmt: skip


def run_folder(target: str, arm: str, seed: int, args: argparse.Namespace) -> Path:
    """Folder of a run."""
    from hyper_mm.engine.records import safe_name

    return args.work_dir / target / safe_name(arm) / f'seed{seed}'


def test_configs(cfg, target: str, arm: str, seed: int, args: argparse.Namespace) -> dict:
    """Configs of the tests of a trained arm, by the name of their result.

    Args:
        cfg: Config of its training.
        target: Domain left out.
        arm: Name of the arm.
        seed: Seed of the run, and of the episodes.
        args: What :func:`parse_args` gives.

    Returns:
        ``'0-shot'`` for arms that need no support; ``'<method>, <k>-shot'`` for the others and the
        plain one, which is fine-tuned.
    """
    load = cfg.train_pipeline[:2]
    pack = cfg.train_pipeline[-1]
    crop = [  # predictions are resized to ori_shape, which is to be that of the crop
        dict(type='CenterCrop', crop_size=(TEST_CROP, TEST_CROP)),
        dict(
            type='KeyMapper', mapping=dict(ori_shape='img_shape'),
            remapping=dict(ori_shape='ori_shape'),
        ),
    ]  # fmt: skip
    found = {}
    if arm not in ADAPTED and target not in OTHER_STRUCTURE:
        found['0-shot'] = changed(cfg, cfg.model, dataset((target,), '', [*load, pack]))
    data = dataset((target,), '', [*load, *crop, pack])
    methods = {}
    if arm == 'plain':
        methods['plain, not adapted'] = learner(cfg.segmentor, 'fomaml', INNER_LR, 1, 0)
        for rate in RATES:
            model = learner(cfg.segmentor, 'fomaml', rate, 1, args.steps)
            methods[f'plain, fine-tuned at {rate:g}'] = model
    elif arm in ADAPTED:
        methods[arm] = cfg.model
    for name, model in methods.items():
        for shots in SHOTS:
            test = changed(cfg, model, episodes(data, shots, QUERIES, args.episodes))
            test.test_cfg = dict(type='hyper_mm.FewShotEvalLoop', seeds=[seed])
            found[f'{name}, {shots}-shot'] = test
    return found


def changed(cfg, model: dict, data: dict):
    """A config with another model and other data to test."""
    cfg = copy.deepcopy(cfg)
    cfg.model = model
    cfg.test_dataloader.dataset = data
    return cfg
