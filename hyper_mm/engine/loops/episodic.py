"""Loops of episodes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.runner import IterBasedTrainLoop, TestLoop

from hyper_mm.registry import LOOPS


@LOOPS.register_module()
class EpisodicTrainLoop(IterBasedTrainLoop):
    """Trains on episodes whose support and query are batches of different domains.

    ``train_dataloader`` describes the loader of every domain; ``domains`` lists what differs
    between their data sets. Each iteration draws the domains by the seed of the run and the
    iteration, in all processes alike::

        train_cfg = dict(
            type='hyper_mm.EpisodicTrainLoop', max_iters=2000,
            domains=[dict(sites=['a']), dict(sites=['b']), dict(sites=['c'])])

    Source: the meta-train and meta-test domains of MLDG (Li et al., AAAI 2018) and SAML.

    Args:
        runner: Runner whose seed and model are used.
        dataloader: Config of a data loader; use ``InfiniteSampler``.
        domains: For each domain, what to set in the config of the data set.
        num_support: From how many domains a support comes, each with a batch.
        **kwargs: As in mmengine's ``IterBasedTrainLoop``.

    Raises:
        ValueError: If there are too few domains, or ``dataloader`` is no config.
    """

    def __init__(
        self, runner, dataloader: dict, domains: Sequence[dict], num_support: int = 1, **kwargs
    ):
        if not isinstance(dataloader, dict):
            raise ValueError(f'dataloader must be a config, got {type(dataloader).__name__}')
        if num_support < 1 or len(domains) <= num_support:
            raise ValueError(
                f'domains must be more than num_support={num_support}, at least 1, and one of them '
                f'is left for the query; got {len(domains)}'
            )
        loaders = []
        for domain in domains:
            cfg = copy.deepcopy(dataloader)
            cfg['dataset'].update(domain)
            loaders.append(runner.build_dataloader(cfg, seed=runner.seed))
        super().__init__(runner, loaders[0], **kwargs)
        # that of the first is there already: a second one would end an infinite sampler
        kind = type(self.dataloader_iterator)
        batches = [self.dataloader_iterator, *map(kind, loaders[1:])]
        self.dataloader_iterator = EpisodicBatches(batches, runner.seed, num_support)


class EpisodicBatches(Iterator):
    """Draws domains, and a batch of each.

    Args:
        batches: Iterator of the batches of each domain, without an end.
        seed: Seed of the draws.
        num_support: Number of domains of a support.

    Raises:
        ValueError: If ``batches`` is no list.
    """

    def __init__(self, batches: Sequence[Iterator], seed: int = 0, num_support: int = 1):
        if not isinstance(batches, (list, tuple)):
            raise ValueError(
                'batches must be those of each domain, got a single loader; a run that is to be '
                'resumed needs randomness=dict(seed=...) in its config'
            )
        self._batches = batches
        self._seed, self._num_support, self._step = seed, num_support, 0

    def __next__(self) -> dict:
        draw = np.random.default_rng((self._seed, self._step))
        self._step += 1
        chosen = draw.choice(len(self._batches), self._num_support + 1, replace=False)
        *support, query = [next(self._batches[domain]) for domain in chosen]
        merged = {k: [x for part in support for x in part[k]] for k in query}
        return dict(support=merged, query=query)


@LOOPS.register_module()
class FewShotEvalLoop(TestLoop):
    """Tests on the episodes of several seeds: adapts to each support, evaluates the query.

    The data set must be a :class:`hyper_mm.EpisodeDataset` or
    :class:`hyper_mm.MixedEpisodeDataset`. Reports the mean of each metric over the seeds, and the
    standard deviation as ``<metric>_std``. Distributed, the number of episodes should be a multiple
    of that of the processes: a sampler that fills up repeats some, and they would count twice.

    Args:
        runner: Runner whose model is tested.
        dataloader: Data loader or its config, without persistent workers.
        evaluator: Evaluator or its config.
        seeds: One pass over all episodes each.
        fp16: As in mmengine.

    Raises:
        ValueError: If there are no seeds, the workers persist, or the data set has no episodes.
    """

    def __init__(
        self, runner, dataloader, evaluator, seeds: Sequence[int] = (0, 1, 2), fp16: bool = False
    ):
        super().__init__(runner, dataloader, evaluator, fp16)
        self.seeds = list(seeds)
        if not self.seeds:
            raise ValueError('seeds must be at least one, got none')
        if self.dataloader.persistent_workers:
            raise ValueError('persistent_workers must be False: they would keep the first seed')
        if not hasattr(self.dataloader.dataset, 'seed'):
            name = type(self.dataloader.dataset).__name__
            raise ValueError(f'dataset must be a hyper_mm.EpisodeDataset, got {name}')

    def run(self) -> dict:
        """Runs all seeds.

        Returns:
            Metrics, as means and standard deviations over the seeds.
        """
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        found = []
        for seed in self.seeds:
            self.dataloader.dataset.seed = seed
            for index, batch in enumerate(self.dataloader):
                self.run_iter(index, batch)
            queries = len(self.dataloader.dataset) * self.dataloader.dataset.queries
            found.append(self.evaluator.evaluate(queries))
        metrics = {}
        for name in dict.fromkeys(name for x in found for name in x):
            values = [float(x[name]) for x in found if name in x]
            metrics[name] = float(np.mean(values))
            metrics[f'{name}_std'] = float(np.std(values))
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics
