"""Pictures and scalars of the hierarchy while it is learned."""

from __future__ import annotations

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hyper_mm.checks import check_at_least
from hyper_mm.engine.unwrap import unwrap_model
from hyper_mm.registry import HOOKS
from hyper_mm.visualization import draw_hierarchy, find_mapper, read_hierarchies


@HOOKS.register_module()
class HierarchyVisualizationHook(Hook):
    """Draws what Hi-Mapper finds in training images, and logs whether it has collapsed.

    Every ``interval`` iterations the model sees some images of the batch in evaluation mode. The
    pictures go to the visualizer as ``hierarchy_<i>`` and so to all of its backends (local files,
    TensorBoard, ...); so do the scalars of
    :func:`hyper_mm.visualization.collapse_indicators`, as ``hi_mapper/<name>``. The curvature, the
    gate and the radius of each level are in the log of every step already. Weights, modes and
    random generators stay as they are: a run with this hook equals the run without it.

    Args:
        interval: Iterations between two pictures.
        num_images: Images to look at each time, from the start of the batch. With one image there
            is no ``image_cosine``.
        draw: Draw pictures; without, only scalars.

    Raises:
        ValueError: If ``interval`` or ``num_images`` are not positive, or, before the run, for a
            model without exactly one Hi-Mapper.

    Example:
        >>> custom_hooks = [dict(type='hyper_mm.HierarchyVisualizationHook', interval=1000)]
    """

    priority = 'LOW'

    def __init__(self, interval: int = 1000, num_images: int = 2, draw: bool = True):
        check_at_least(1, interval=interval, num_images=num_images)
        self.interval = interval
        self.num_images = num_images
        self.draw = draw

    def before_run(self, runner: Runner) -> None:
        """Looks for the Hi-Mapper."""
        try:
            find_mapper(runner.model)
        except ValueError as error:
            raise ValueError(f'HierarchyVisualizationHook: {error}') from None

    @master_only
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Draws and logs, every ``interval`` iterations."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = unwrap_model(runner.model)
        few = {key: data_batch[key][: self.num_images] for key in ('inputs', 'data_samples')}
        drawings, scalars = read_hierarchies(model, few)
        step = runner.iter + 1
        named = {f'hi_mapper/{name}': value for name, value in scalars.items()}
        runner.visualizer.add_scalars(named, step=step)
        if not self.draw:
            return
        meta = getattr(runner.visualizer, 'dataset_meta', None) or {}
        names = dict(classes=meta.get('classes') or (), palette=meta.get('palette'))
        for i, drawing in enumerate(drawings):
            picture = draw_hierarchy(**drawing, **names, title=f'Iteration {step}')
            runner.visualizer.add_image(f'hierarchy_{i}', picture, step=step)
