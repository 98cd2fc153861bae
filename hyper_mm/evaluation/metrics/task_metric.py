"""Metrics of one task among several."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric

from hyper_mm.registry import METRICS


@METRICS.register_module()
class TaskMetric(BaseMetric):
    """Scores the episodes of one task of :class:`hyper_mm.MixedEpisodeDataset` by any metric.

    Results are named ``<task>/<name>``; there are none where the task was never drawn.

    Args:
        task: Name of the task.
        metric: Metric or its config; it sees the metainfo of the task's own data set.
        **kwargs: ``collect_device``, ``collect_dir``.
    """

    def __init__(self, task: str, metric: dict | BaseMetric, **kwargs):
        super().__init__(prefix=task, **kwargs)
        self.task = task
        self.metric = METRICS.build(metric) if isinstance(metric, dict) else metric

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Passes on what is of the task; the batch counts as one result.

        Args:
            data_batch: Passed on.
            data_samples: With predictions, of any task.
        """
        self.metric.dataset_meta = self.dataset_meta['tasks'][self.task]
        self.metric.results = []
        chosen = [sample for sample in data_samples if sample['task'] == self.task]
        if chosen:
            self.metric.process(data_batch, chosen)
        self.results.append(self.metric.results)

    def compute_metrics(self, results: list[list]) -> dict[str, float]:
        """Computes the metric.

        Args:
            results: Those of the metric, batch by batch.
        """
        merged = [x for part in results for x in part]
        return self.metric.compute_metrics(merged) if merged else {}
