"""Gradient steps on a support, their rate, and predictions with the weights that they give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor

from hyper_mm.models.meta.episodic_model import EpisodicModel
from hyper_mm.models.meta.meta_learner import DivergedError, MetaLearner, batch_norms
from hyper_mm.registry import MODELS

from .views import Half, Part, Views, folds

PLAIN_STEPS = 20
"""Steps of a model that was not meta-trained."""
PLAIN_RATES = (0.01, 0.03, 0.1, 0.3)
"""Rates that are tried for it."""
FINALISTS = 2
"""Rates that are tried on more than the first images that are left out."""
META_FACTORS = (1 / 3, 1.0, 3.0)
"""Factors of the rate of a meta-trained model that are tried."""
IGNORED = 255


class State(NamedTuple):
    """Weights of a model beside its own."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]


class Choice(NamedTuple):
    """A rate and a number of steps, and the Dice of all that were tried."""

    rate: float | None
    steps: int
    table: dict[tuple[float | None, int], float]
    """Mean Dice in percent of images that were left out, by rate and steps; 0 steps: as it is."""


def build_learner(cfg: Config, checkpoint: str, classes: int | None = None) -> MetaLearner:
    """The model of a config with its weights, as one that adapts.

    A plain segmentor is wrapped in first-order steps; its batch norms, if it has some, keep their
    statistics, since a support of a few images has none worth having.

    Args:
        cfg: The config.
        checkpoint: Its checkpoint, which must fit to the last weight.
        classes: Number of classes of the site where it is not that of the model: the last layer is
            then a new one.

    Raises:
        TypeError: If the model is no segmentor or does not adapt by steps.
    """
    from mmengine.runner import load_checkpoint

    from hyper_mm import checkpoints as compat

    config = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        config.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(config)
    compat.install_checkpoint_loader()
    load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    if not isinstance(model, EpisodicModel):
        norms = 'frozen' if batch_norms(model) else 'batch'
        model = MetaLearner(model, 'fomaml', PLAIN_RATES[1], test_steps=PLAIN_STEPS, norms=norms)
    if not isinstance(model, MetaLearner) or not hasattr(model.model, 'decode_head'):
        hint = ': its set_support(items) takes the place of steps'
        hint = hint if hasattr(model, 'set_support') else ''
        raise TypeError(f'{cfg.model.type} is no segmentor that adapts by gradient steps{hint}')
    if classes is not None:
        renew_classes(model.model, classes)
    return model


def check_rates(learner: MetaLearner, rate: float | None, rates: Sequence[float] | None) -> None:
    """Refuses rates for a model that has learned its own, which alone would be taken.

    Args:
        learner: The model.
        rate: A rate that is given, or None.
        rates: Rates to try, or None.

    Raises:
        ValueError: It says which option to leave out.
    """
    for option, given in (('--lr', rate), ('--rates', rates)):
        if given and learner.rates is not None:
            raise ValueError(
                f'{option} must be left out: the model has learned its rates; got {given}'
            )


def norms_of_one_image(model: torch.nn.Module) -> list[str]:
    """Kinds of layers that normalize an image by its own mean and spread over places.

    What they pass on depends on what else the image shows: a crop is another image to them.

    Args:
        model: The model.
    """
    kinds = (torch.nn.modules.instancenorm._InstanceNorm, torch.nn.GroupNorm)
    found = (m for m in model.modules() if isinstance(m, kinds))
    return sorted({type(m).__name__ for m in found if not getattr(m, 'track_running_stats', False)})


def renew_classes(segmentor, classes: int) -> None:
    """Gives a segmentor a last layer for another number of classes, random, small weights.

    Args:
        segmentor: mmseg's ``EncoderDecoder``.
        classes: Number of classes, at least 2.

    Raises:
        ValueError: For fewer than two classes.
        TypeError: If the head has no last layer ``conv_seg``.
    """
    if classes < 2:
        raise ValueError(f'classes must be at least 2, background included, got {classes}')
    head = segmentor.decode_head
    old = getattr(head, 'conv_seg', None)
    if not isinstance(old, torch.nn.Conv2d):
        raise TypeError(f'{type(head).__name__} has no last layer conv_seg that could be renewed')
    new = torch.nn.Conv2d(old.in_channels, classes, old.kernel_size, old.stride, old.padding)
    torch.nn.init.normal_(new.weight, std=0.01)
    torch.nn.init.zeros_(new.bias)
    head.conv_seg = new.to(old.weight)
    head.num_classes = head.out_channels = classes
    segmentor.num_classes = segmentor.out_channels = classes
    head.threshold = None
    if segmentor.with_auxiliary_head:  # of the old classes, and used in training alone
        del segmentor.auxiliary_head
        segmentor.auxiliary_head = None


def fit(
    learner: MetaLearner,
    views: Views,
    steps: int,
    rate: float | None = None,
    kept: Sequence[int] = (),
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[State, list[float], dict[int, State]]:
    """Takes steps from the model's own weights, which stay as they are.

    Args:
        learner: The model.
        views: The support.
        steps: Number of steps.
        rate: Their rate; that of the model if None.
        kept: Numbers of steps after which the weights are kept.
        on_step: Called after each step with its number and loss.

    Returns:
        The adapted weights, the loss before each step, and the kept weights by their steps.

    Raises:
        DivergedError: If the loss becomes infinite or not a number.
    """
    before, mode = learner.inner_lr, learner.model.training
    parameters, buffers = learner.initial_state()
    parameters = {name: p.detach() for name, p in parameters.items()}
    losses: list[float] = []
    found: dict[int, State] = {}
    learner.inner_lr = before if rate is None else rate
    learner.model.train()
    device = next(iter(parameters.values())).device
    try:
        with torch.random.fork_rng([device] if device.type == 'cuda' else []):
            torch.manual_seed(views.seed)  # of dropout
            for number in range(steps):
                batches = views.step(number)
                parameters, loss = learner.step(batches, parameters, buffers)
                losses.append(loss)
                if on_step is not None:
                    on_step(number, loss)
                if number + 1 in kept or number + 1 == steps:
                    state = State(parameters, {n: b.clone() for n, b in buffers.items()})
                    if learner.norms == 'task':
                        learner.take_statistics(next(views.step(number)), *state)
                    found[number + 1] = state
    finally:
        learner.inner_lr = before
        learner.model.train(mode)
    return found[steps] if steps else State(parameters, buffers), losses, found


def predict(
    learner: MetaLearner, state: State | None, items: Sequence[dict], logits: bool = False
) -> Iterator:
    """Segments images, one after the other.

    Args:
        learner: The model.
        state: Weights to do it with; the model's own if None.
        items: Packed items.
        logits: Keep the logits of segmentors, which are many times the rest.

    Yields:
        Data samples on the CPU; label maps of segmentors as bytes.
    """
    parameters, buffers = learner.initial_state() if state is None else state
    learner.model.eval()
    for index in range(len(items)):
        with torch.no_grad():
            batch = learner.model.data_preprocessor(pseudo_collate([items[index]]), False)
            (sample,) = learner.call(parameters, dict(buffers), batch, 'predict')
        sample = sample.cpu()
        if not logits:
            sample.pop('seg_logits', None)
        for name in ('pred_sem_seg', 'gt_sem_seg'):
            if name in sample:
                sample.get(name).data = sample.get(name).data.to(torch.uint8)
        yield sample


def dice(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Dice in percent, mean over the classes but 0 that one of both has; NaN if there is none.

    Args:
        predicted: Label map.
        labels: Label map; pixels of 255 do not count.
        classes: Number of classes.
    """
    valid = labels != IGNORED
    scores = []
    for k in range(1, classes):
        p, g = (predicted == k) & valid, labels == k
        total = int(p.sum() + g.sum())
        if total:
            scores.append(200 * int((p & g).sum()) / total)
    return sum(scores) / len(scores) if scores else float('nan')


def held_out(count: int, dataset: Sequence[dict], limit: int) -> list[tuple[Sequence, Sequence]]:
    """Pairs of items to learn from and to be judged on.

    Args:
        count: Number of images of the data set; a single one is cut into halves.
        dataset: The data set.
        limit: Greatest number of pairs.
    """
    if count == 1:
        halves = [Half(dataset, right) for right in (False, True)]
        return [(halves[0], halves[1]), (halves[1], halves[0])]
    pairs = folds(count, limit)
    return [(Part(dataset, learn), Part(dataset, judge)) for learn, judge in pairs]


def rates_of(learner: MetaLearner, wrapped: bool) -> list[float | None]:
    """Rates that are tried.

    Args:
        learner: The model.
        wrapped: Whether it is a plain one, without a rate of its own.
    """
    if learner.rates is not None:
        return [None]
    if wrapped:
        return [*PLAIN_RATES]
    return [learner.inner_lr * factor for factor in META_FACTORS]


def choose(
    learner: MetaLearner,
    dataset: Sequence[dict],
    rates: Sequence[float | None],
    steps: int,
    options: dict,
    limit: int = 3,
    on_step: Callable[[], None] | None = None,
    judge: Callable[[MetaLearner, State | None, Sequence[dict]], list[float]] | None = None,
) -> Choice:
    """Chooses rate and number of steps by images of the support that are left out in turn.

    All rates are tried on the first images that are left out, the best two on all.

    Args:
        learner: The model.
        dataset: The support.
        rates: Rates to try.
        steps: The greatest number of steps; a quarter and half of it are tried, too.
        options: Of :class:`Views`.
        limit: Greatest number of parts of the support that are left out in turn; as many as images
            for leaving out each.
        on_step: Called after each step.
        judge: Scores of items, the greater the better, given model, weights and items; Dice of
            each image if None.

    Returns:
        The choice. Among equals, fewer steps and then the smaller rate.

    Raises:
        ValueError: If no rate gives a finite loss.
    """
    judge = dice_of_each if judge is None else judge
    tried = sorted({max(1, steps // 4), max(1, steps // 2), steps})
    scores: dict[tuple[float | None, int], list[float]] = {}
    step = None if on_step is None else (lambda *_: on_step())
    rates = list(rates)
    for number_of_part, (learn, left_out) in enumerate(held_out(len(dataset), dataset, limit)):
        if number_of_part == 1:
            rates = sorted(rates, key=lambda r: -max(_mean(scores[r, n]) for n in tried))
            rates = rates[:FINALISTS]
        scores.setdefault((None, 0), []).extend(judge(learner, None, left_out))
        views = Views(learn, learner.model.data_preprocessor, **options)
        for rate in rates:
            try:
                _, _, found = fit(learner, views, steps, rate, tried, step)
            except DivergedError:  # the rate is too great
                for number in tried:
                    scores.setdefault((rate, number), []).append(float('-inf'))
                continue
            for number, state in found.items():
                scores.setdefault((rate, number), []).extend(judge(learner, state, left_out))
    return _best(scores, rates)


def dice_of_each(learner: MetaLearner, state: State | None, items: Sequence[dict]) -> list[float]:
    """Dice of each item.

    Args:
        learner: The model.
        state: Its weights; its own if None.
        items: Packed items with labels.
    """
    found = []
    for index, sample in enumerate(predict(learner, state, items)):
        labels = items[index]['data_samples'].gt_sem_seg.data
        predicted = _at(sample.pred_sem_seg.data, labels)
        found.append(dice(predicted, labels, learner.model.num_classes))
    return found


def _at(predicted: Tensor, labels: Tensor) -> Tensor:
    """A prediction of the original size at that of the labels of the test pipeline."""
    if predicted.shape[-2:] == labels.shape[-2:]:
        return predicted
    small = torch.nn.functional.interpolate(predicted[None].float(), labels.shape[-2:])
    return small[0].to(predicted.dtype)


def _mean(values: list[float]) -> float:
    known = [v for v in values if v == v]
    return sum(known) / len(known) if known else 0.0


def _best(
    scores: dict[tuple[float | None, int], list[float]], rates: Sequence[float | None]
) -> Choice:
    """The best of the given rates and all steps."""
    table = {key: _mean(values) for key, values in scores.items()}
    usable = {k: v for k, v in table.items() if k[1] and k[0] in rates and v > float('-inf')}
    if not usable:
        raise ValueError('no rate gives a finite loss: give smaller ones by --rates')
    rate, steps = max(usable, key=lambda k: (round(usable[k], 6), -k[1], -(k[0] or 0)))
    return Choice(rate, steps, table)


def at_the_edge(choice: Choice, rates: Sequence[float | None], number: int) -> list[str]:
    """Sentences on what to try next where the best is the greatest that was tried.

    Args:
        choice: The best.
        rates: The rates that were tried.
        number: The greatest number of steps that was tried.
    """
    found, known = [], [rate for rate in rates if rate is not None]
    if len(known) > 1 and choice.rate == max(known):
        more = ' '.join(f'{choice.rate * factor:g}' for factor in (1, 3, 10))
        found.append(f'this is the greatest rate that was tried: --rates {more} may do better')
    if choice.steps == number:
        found.append(f'these are all steps that were allowed: --steps {2 * number} may do better')
    return found


def commit(learner: MetaLearner, state: State) -> None:
    """Makes adapted weights those of the model.

    Args:
        learner: The model.
        state: The weights.
    """
    with torch.no_grad():
        for name, value in learner.model.named_parameters():
            value.copy_(state.parameters[name])
        for name, value in learner.model.named_buffers():
            value.copy_(state.buffers[name])
