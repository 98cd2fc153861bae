"""An error in place of a distributed run that waits for ever."""

from __future__ import annotations

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hyper_mm.registry import HOOKS


@HOOKS.register_module()
class EqualShardsHook(Hook):
    """Stops a distributed run whose processes would wait for each other for ever.

    Every step of distributed training needs all processes. With ``round_up=False`` a sampler may
    give some of them fewer batches, or none: those are done first and the others hang. The tools of
    hyper_mm add this hook; in other tools add it to ``custom_hooks``.

    Raises:
        ValueError: Before training, in all processes, with the number of batches of each.
    """

    def before_train(self, runner: Runner) -> None:
        """Compares the number of batches of the processes."""
        if get_world_size() == 1:
            return
        try:
            count = len(runner.train_loop.dataloader)
        except TypeError:  # a stream
            count = None
        counts = all_gather_object(count)
        if None in counts:
            return
        endless = hasattr(runner.train_loop, 'dataloader_iterator')  # starts again at its end
        if min(counts) == 0 or (len(set(counts)) > 1 and not endless):
            raise ValueError(
                f'train_dataloader: the processes get {counts} batches, and training would wait '
                'for ever for those with fewer: set sampler.round_up=True, or give more images '
                f'than {len(counts)} processes need'
            )
