"""Adaptation of a segmentor to a site, from folders to a report; what tools/adapt.py does."""

from __future__ import annotations

import copy
import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from hyper_mm.checks import check_count, check_positive
from hyper_mm.datasets.transforms.load_image_window import suffix_of
from hyper_mm.registry import DATASETS, METRICS

from ..records import file_digest
from . import pictures, report, site_folder, steps
from .views import Part, Views

METRIC = 'hyper_mm.DiceHausdorffMetric'
SEARCH = dict(crop=192, images=4)
"""Crops and images of a step at most while the rate is looked for, which takes many steps."""
KINDS = ('labels', 'overlays', 'confidence')
"""Folders of ``predictions``."""
UNSURE = 0.7
"""Confidence below which a pixel is counted as unsure."""


@dataclass
class Options:
    """What is to be done; see tools/adapt.py."""

    support: Path
    query: Path | None = None
    predict: Path | None = None
    out: Path = Path('work_dirs/adapted')
    steps: int | None = None
    rate: float | None = None
    rates: list[float] | None = None
    window: tuple[float, float] | str | None = None
    crop: int = 512
    augment: bool = True
    folds: int = 3
    pictures: int = 8
    spacing: float | None = None
    classes: list[str] | None = None
    device: str = 'cpu'
    seed: int = 0
    views: dict[str, Any] = field(init=False)

    def __post_init__(self):
        """Checks the numbers.

        Raises:
            ValueError: With the name of the option.
        """
        check_count(1, crop=self.crop)
        check_count(2, folds=self.folds)
        check_count(0, pictures=self.pictures, seed=self.seed)
        if self.steps is not None:
            check_count(1, steps=self.steps)
        for rate in [self.rate, *(self.rates or [])]:
            if rate is not None:
                check_positive(**{'lr' if rate is self.rate else 'rates': rate})
        if self.rates and self.rate is not None:
            raise ValueError('rates must be left out where lr is given')
        if self.spacing is not None:
            check_positive(spacing=self.spacing)
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError(f'classes must have different names, got {" ".join(self.classes)}')
        self.views = dict(crop=self.crop, augment=self.augment, seed=self.seed)


class SiteAdaptation:
    """A model, the labeled images of a site, and what is written about them.

    Args:
        cfg: Config of the model; the pipeline of its ``test_dataloader`` loads the images.
        checkpoint: Weights of the model.
        options: What is to be done.
        console: Where it is told.

    Raises:
        ValueError: If images, masks or options do not fit, with the file or option.
        TypeError: If the model does not adapt.
        FileNotFoundError: If a mask is missing.
    """

    def __init__(self, cfg: Config, checkpoint: str, options: Options, console: Console):
        if cfg.get('test_dataloader') is None:
            raise ValueError(f'{cfg.filename} must have a test_dataloader, whose pipeline is used')
        self.cfg, self.options, self.console = cfg, options, console
        self.metric = _metric(cfg, options.spacing)
        METRICS.build(self.metric)
        names = options.classes
        self.learner = steps.build_learner(cfg, checkpoint, None if names is None else len(names))
        self.learner.to(options.device)
        self.plain = self.learner.algorithm == 'fomaml' and not _is_meta(cfg)
        steps.check_rates(self.learner, options.rate, options.rates)
        count = self.learner.model.num_classes
        if count > site_folder.IGNORED:
            raise ValueError(
                f'the model must have at most {site_folder.IGNORED} classes, since masks are of 8 '
                f'bits, got {count}: give those of the site by --classes'
            )
        self.info = site_folder.metainfo(cfg, count, names)
        self.window = self._window()
        self.support = self._data(options.support, True)
        self.original = self._data(options.support, False)
        self.seen = site_folder.check_labels(self.original, count)
        self.query = None
        if options.query is not None:
            self.query = self._data(options.query, False)
            site_folder.check_labels(self.query, count)
        self.twice = self._copies()
        self.unlabeled = []
        if options.predict is not None:
            taken = sorted({'image', 'unsure'} & {*self.info['classes']})
            if taken:
                raise ValueError(
                    f'classes must not be called {taken} with --predict, whose table has columns '
                    'of these names: rename them by --classes'
                )
            folder = options.predict / 'images'
            self.unlabeled = site_folder.images_of(folder if folder.is_dir() else options.predict)
            site_folder.check_window(self.unlabeled, self.window)

    def _window(self) -> site_folder.Window | None:
        given = self.options.window
        if given != 'auto':
            return given  # type: ignore[return-value]
        images = site_folder.images_of(self.options.support / 'images')
        window = site_folder.find_window(images)
        self.console.print(f'window of the support: {window[0]:g} to {window[1]:g}')
        return window

    def _copies(self) -> list[tuple[Path, Path]]:
        """Images that are twice in the support; refuses those of the support in the query."""
        support = site_folder.images_of(self.options.support / 'images')
        if self.options.query is not None:
            known = {file_digest(path): path for path in support}
            for path in site_folder.images_of(self.options.query / 'images'):
                if file_digest(path) in known:
                    raise ValueError(
                        f'{path} is learned from, too, as {known[file_digest(path)].name} of the '
                        'support: --query must hold other images, or be left out (each image is '
                        'then judged by a model that has not seen it)'
                    )
        return site_folder.copies(support)

    def _config(self, folder: Path, resize_labels: bool) -> dict:
        return site_folder.labeled(self.cfg, folder, self.info, resize_labels, self.window)

    def _data(self, folder: Path, resize_labels: bool):
        return DATASETS.build(self._config(folder, resize_labels))

    def warnings(self) -> list[str]:
        """Sentences on what is wrong with the support."""
        missing = [self.info['classes'][k] for k, n in self.seen.items() if not n]
        found = []
        if missing:
            found.append(
                f'Not in the support: {", ".join(missing)}. The model cannot learn them, and may '
                'forget them.'
            )
        folders = [self.options.support, *filter(None, [self.options.query])]
        images = [path for folder in folders for path in site_folder.images_of(folder / 'images')]
        if self.window is not None:
            faint = site_folder.faint_images([*images, *self.unlabeled], self.window)
            if faint:
                found.append(
                    f'Images of little contrast in the window {self.window[0]:g} to '
                    f'{self.window[1]:g}: {len(faint)} of {len(images) + len(self.unlabeled)}, the '
                    f'first {faint[0]}. Are their values in another unit?'
                )
        if self.twice:
            pairs = ', '.join(f'{first.name} is {second.name}' for first, second in self.twice)
            found.append(
                f'Images that are twice in the support: {pairs}. They count double, and '
                'what is left out of the learning may have been learned.'
            )
        if len(self.support) < report.FEW:
            number = report.number_of(len(self.support), 'labeled image')
            found.append(
                f'{number}: fewer than {report.FEW}, so that the numbers are for orientation alone.'
            )
        norms = steps.norms_of_one_image(self.learner.model)
        side = max(max(item['inputs'].shape[-2:]) for item in self.support)
        if norms and side > self.options.crop:
            found.append(
                f'The model normalizes each image by its own values ({", ".join(norms)}). It '
                f'learns from crops of {self.options.crop} pixels and is used on images of up to '
                f'{side}, where these values are others: give --crop {side} if memory allows.'
            )
        if self.options.classes is not None:
            found.append('The last layer is new: the scores before are those of an untrained one.')
        return found

    def _collapse(self, samples: list) -> list[str]:
        """A sentence if one class is found all over where the labels have several."""
        found, known = (
            {
                int(k)
                for sample in samples
                for k in sample.get(name).data.unique()
                if k != site_folder.IGNORED
            }
            for name in ('pred_sem_seg', 'gt_sem_seg')
        )
        if len(found) > 1 or len(known) < 2:
            return []
        name = self.info['classes'][found.pop()]
        return [
            f'The adapted model says {name} at every pixel of every image: it is of no use, '
            'whatever the numbers say. Try smaller rates (--lr, --rates) or more images.'
        ]

    def run(self) -> dict[str, Any]:
        """Adapts, judges, predicts, and writes everything.

        Returns:
            What ``metrics.json`` holds.
        """
        options, learner = self.options, self.learner
        warnings = self.warnings()
        for line in warnings:
            self.console.print(line, style='bold', markup=False)
        with Progress(console=self.console) as progress:
            choice = self._choose(progress)
            how = 'query' if self.query is not None else self._how()
            judged = [*self._judge(choice, progress)]
            state, losses = self._fit(self.support, choice, progress, 'adapting')
            if self.query is not None:
                judged = [*self._on_query(state, progress)]
            steps.commit(learner, state)
            self._clear()
            (options.out / 'pictures').mkdir(parents=True, exist_ok=True)
            summary = self._predict_unlabeled(progress)
        before, after = ([pair[i] for pair in judged] for i in (0, 1))
        collapsed = self._collapse(after)
        for line in collapsed:
            self.console.print(line, style='bold', markup=False)
        scores: dict[str, Any] = {
            name: self._score(samples, options.out / f'cases_{name}.csv')
            for name, samples in (('before', before), ('after', after))
        }
        scores.update(
            support=str(options.support), query=str(options.query or options.support), how=how,
            losses=losses, rate=choice.rate, steps=choice.steps, window=self.window,
            tried=[dict(rate=r, steps=n, dice=d) for (r, n), d in choice.table.items()],
            predicted=summary,
        )  # fmt: skip
        self._write_model(choice)
        cases = self._cases(before, after)
        scores['pictures'] = [f'{case.name}.png' for case in cases[: options.pictures]]
        page = self._page(cases, choice, how, [*collapsed, *warnings])
        (options.out / 'report.html').write_text(page, encoding='utf-8')
        text = json.dumps(finite(scores), indent=2, allow_nan=False)
        (options.out / 'metrics.json').write_text(text + '\n', encoding='utf-8')
        return scores

    def _clear(self) -> None:
        """Removes what an earlier run into the same folder has written, by its ``metrics.json``."""
        out = self.options.out
        try:
            earlier = json.loads((out / 'metrics.json').read_text(encoding='utf-8'))
            names = [str(row['image']) for row in earlier['predicted']]
            drawn = [str(name) for name in earlier.get('pictures', [])]
        except (OSError, ValueError, KeyError, TypeError):
            return
        for name in names:
            for kind in KINDS:
                file = f'{Path(name).name.removesuffix(suffix_of(name))}.png'
                (out / 'predictions' / kind / file).unlink(missing_ok=True)
        for name in drawn:
            (out / 'pictures' / Path(name).name).unlink(missing_ok=True)
        (out / 'predictions' / 'predictions.csv').unlink(missing_ok=True)
        for name in ('metrics.json', 'report.html'):  # until the new ones are complete
            (out / name).unlink(missing_ok=True)

    def _how(self) -> str:
        return 'halves' if len(self.support) == 1 else 'left out'

    def _choose(self, progress: Progress) -> steps.Choice:
        """Rate and number of steps: given ones, or those found on the support."""
        options, learner = self.options, self.learner
        number = options.steps or learner.test_steps or learner.inner_steps
        if options.rate is not None:
            return steps.Choice(options.rate, number, {})
        rates: Sequence[float | None] = options.rates or steps.rates_of(learner, self.plain)
        parts = 2 if len(self.support) == 1 else min(len(self.support), options.folds)
        task = progress.add_task('choosing the rate', total=parts * len(rates) * number)
        views = dict(options.views, crop=min(options.crop, SEARCH['crop']), images=SEARCH['images'])
        choice = steps.choose(
            learner, self.support, rates, number, views, options.folds,
            lambda: progress.advance(task),
        )  # fmt: skip
        progress.update(task, completed=parts * len(rates) * number)
        if choice.rate is not None:  # now: the table comes last, and logs have no bars
            chosen = f'rate {choice.rate:g}, {report.number_of(choice.steps, "step")}'
            self.console.print(f'found on the support: {chosen}', highlight=False)
            for line in steps.at_the_edge(choice, rates, number):
                self.console.print(line, highlight=False, soft_wrap=True)
        return choice

    def _fit(self, items, choice: steps.Choice, progress: Progress, name: str):
        """Adapted weights, and the losses."""
        views = Views(items, self.learner.model.data_preprocessor, **self.options.views)
        task = progress.add_task(name, total=choice.steps)

        def show(number: int, loss: float) -> None:
            progress.update(task, completed=number + 1, description=f'{name}, loss {loss:.4f}')

        state, losses, _ = steps.fit(self.learner, views, choice.steps, choice.rate, on_step=show)
        return state, losses

    def _judge(self, choice: steps.Choice, progress: Progress) -> Iterator[tuple]:
        """Predictions before and after for each support image, by models that have not seen it."""
        if self.query is not None:
            return
        count, limit = len(self.support), 10
        if count == 1:
            pairs = steps.held_out(1, self.support, 2)
        else:
            pairs = [
                (Part(self.support, learn), Part(self.original, judge))
                for learn, judge in steps.folds(count, limit)
            ]
        for number, (learn, judge) in enumerate(pairs):
            name = f'leaving out {number + 1} of {len(pairs)}'
            state, _ = self._fit(learn, choice, progress, name)
            before = steps.predict(self.learner, None, judge)
            yield from zip(before, steps.predict(self.learner, state, judge))

    def _on_query(self, state: steps.State, progress: Progress) -> Iterator[tuple]:
        """Predictions before and after for each image of the query."""
        task = progress.add_task('testing', total=len(self.query))
        before = steps.predict(self.learner, None, self.query)
        for pair in zip(before, steps.predict(self.learner, state, self.query)):
            progress.advance(task)
            yield pair

    def _score(self, samples: list, cases: Path | None = None) -> dict[str, float]:
        """Dice and distance of predictions."""
        metric = METRICS.build(dict(self.metric, cases=None if cases is None else str(cases)))
        metric.dataset_meta = self.info
        metric.process({}, [sample.to_dict() for sample in samples])
        return metric.evaluate(len(samples))

    def _cases(self, before: list, after: list) -> list[report.Case]:
        """The judged images; draws pictures of the first ones."""
        load, found = site_folder.pipelines(self.cfg, self.window)[0], []
        distance = next(key for key in self._score(after[:1]) if key.startswith('hd'))
        for number, (old, new) in enumerate(zip(before, after)):
            path = Path(old.img_path)
            name = path.name.removesuffix(suffix_of(path))
            scores = [self._score([sample]) for sample in (old, new)]
            dice = [score['dice'] for score in scores]
            image = pictures.load_rgb(load, path)
            truth, first, second = (
                x.data[0].numpy().astype(np.uint8)
                for x in (new.gt_sem_seg, old.pred_sem_seg, new.pred_sem_seg)
            )
            if truth.shape != image.shape[:2]:  # half of the only image, as the model is given it
                whole = sum(sample.gt_sem_seg.data.shape[-1] for sample in after)
                image = np.asarray(Image.fromarray(image).resize((whole, truth.shape[0])))
                left = 0 if number else whole - truth.shape[1]
                image = image[:, left : left + truth.shape[1]]
                name = f'{name} ({"left" if number else "right"} half)'
            if number < self.options.pictures:
                file = self.options.out / 'pictures' / f'{name}.png'
                pictures.compare(
                    file, image, truth, first, second, dice, self.info['palette'], name
                )
            shown = pictures.as_data_uri(pictures.outlines(image, truth, second))
            found.append(report.Case(name, *dice, scores[1][distance], shown, scores[0][distance]))
        return found

    def _page(
        self, cases: list[report.Case], choice: steps.Choice, how: str, warnings: list[str]
    ) -> str:
        options = self.options
        unit = 'pixels' if options.spacing is None else 'mm'
        rate = 'learned by the model' if choice.rate is None else f'{choice.rate:g}'
        settings = dict(
            model=str(self.cfg.filename), learned_from=str(options.support),
            judged_on=str(options.query or options.support), steps=str(choice.steps), rate=rate,
            classes=', '.join(self.info['classes']), crop=str(options.crop),
            augmentation='yes' if options.augment else 'no',
            window='8 bits' if self.window is None else f'{self.window[0]:g} to {self.window[1]:g}',
        )  # fmt: skip
        settings = {name.replace('_', ' '): value for name, value in settings.items()}
        title = f'Adaptation to {options.support.resolve().parent.name or options.support}'
        return report.page(
            title, cases, len(self.support), how, unit, warnings, settings,
            table_of(choice.table), bool(choice.table),
        )  # fmt: skip

    def _predict_unlabeled(self, progress: Progress) -> list[dict[str, Any]]:
        """Writes label maps, overlays and maps of confidence of unlabeled images."""
        if not self.unlabeled:
            return []
        load, others = site_folder.pipelines(self.cfg, self.window)
        pipeline, top = Compose([load, *others]), self.options.out / 'predictions'
        for kind in KINDS:
            (top / kind).mkdir(parents=True, exist_ok=True)
        task, rows = progress.add_task('predicting', total=len(self.unlabeled)), []
        for path in self.unlabeled:
            item = pipeline(dict(img_path=str(path), reduce_zero_label=False, seg_fields=[]))
            (sample,) = steps.predict(self.learner, None, [item], logits=True)
            labels = sample.pred_sem_seg.data[0].numpy().astype(np.uint8)
            sure = pictures.confidence(sample.seg_logits.data)
            name = f'{path.name.removesuffix(suffix_of(path))}.png'
            image = pictures.load_rgb(load, path)
            drawn = pictures.overlay(image, labels, self.info['palette'])
            sure_in_8_bits = np.rint(255 * sure).astype(np.uint8)
            for kind, picture in zip(KINDS, (labels, drawn, sure_in_8_bits)):
                Image.fromarray(picture).save(top / kind / name)
            shares = np.bincount(labels.ravel(), minlength=len(self.info['classes'])) / labels.size
            rows.append(
                dict(
                    image=path.name,
                    unsure=float((sure < UNSURE).mean()),
                    **{n: float(shares[k]) for k, n in enumerate(self.info['classes'])},
                )
            )
            progress.advance(task)
        rows.sort(key=lambda row: -row['unsure'])
        with (top / 'predictions.csv').open('w', newline='', encoding='utf-8') as stream:
            writer = csv.DictWriter(stream, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
        return rows

    def _write_model(self, choice: steps.Choice) -> None:
        """Writes the adapted model as a plain one: a config with test data, and a checkpoint."""
        from mmengine.runner import save_checkpoint

        cfg, options = copy.deepcopy(self.cfg), self.options
        if _is_meta(cfg):
            cfg.model = cfg.model.model
        if options.classes is not None:
            cfg.model.decode_head.num_classes = len(options.classes)
            cfg.model.decode_head.pop('out_channels', None)
            cfg.model.pop('auxiliary_head', None)
        prefixes = ('train_', 'val_', 'test_', 'optim_', 'param_')
        for key in [k for k in cfg if k.startswith(prefixes)]:
            cfg.pop(key)
        data = self._config(options.query or options.support, False)
        cfg.test_dataloader = dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=data,
        )
        cfg.test_evaluator, cfg.test_cfg = self.metric, dict(type='TestLoop')
        cfg.setdefault('test_pipeline', cfg.test_dataloader.dataset.pipeline)  # inference_model
        cfg.dump(options.out / 'adapted.py')
        meta = dict(dataset_meta=self.info, steps=choice.steps, rate=choice.rate)
        state = {name: value.cpu() for name, value in self.learner.model.state_dict().items()}
        save_checkpoint(dict(meta=meta, state_dict=state), str(options.out / 'adapted.pth'))


def _is_meta(cfg: Config) -> bool:
    """Whether the model of a config is a wrapper of the segmentor."""
    return 'model' in cfg.model


def _metric(cfg: Config, spacing: float | None) -> dict:
    """Config of the scores: that of the test where it has them."""
    evaluators = cfg.get('test_evaluator') or {}
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    found = next((dict(m) for m in evaluators if m.get('type') == METRIC), dict(type=METRIC))
    return found if spacing is None else dict(found, spacing=spacing)


def table_of(tried: dict[tuple[float | None, int], float]) -> list[list[str]]:
    """The rates that were tried as a table, its head first; empty if there are none.

    Args:
        tried: Dice by rate and number of steps.
    """
    if not tried:
        return []
    numbers = sorted({n for _, n in tried if n})
    rows = [['rate', *(f'{n} steps' for n in numbers)]]
    if (None, 0) in tried:
        rows.append(['not adapted', f'{tried[None, 0]:.1f}', *[''] * (len(numbers) - 1)])
    for rate in dict.fromkeys(r for r, n in tried if n):
        cells = [tried.get((rate, n), math.nan) for n in numbers]
        shown = [f'{v:.1f}' if math.isfinite(v) else 'diverges' for v in cells]
        rows.append(['learned' if rate is None else f'{rate:g}', *shown])
    return rows


def finite(value: Any) -> Any:
    """A value for JSON, which has neither infinity nor NaN: null in their place."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
