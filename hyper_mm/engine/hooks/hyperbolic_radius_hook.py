"""Hook that logs the radii of the embeddings of a model with a HyperCLIP adapter."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from hyper_mm.checks import check_at_least
from hyper_mm.models.utils.observed import observing
from hyper_mm.ops.stable import safe_norm
from hyper_mm.registry import HOOKS

from .merge_adapters_hook import adapter_of


@HOOKS.register_module()
class HyperbolicRadiusHook(Hook):
    r"""Logs how far from the origin of the ball the embeddings of texts and pixels lie.

    The radius of an embedding ``z`` is its distance from the origin after the exponential map,
    :math:`\frac{2}{\sqrt c} \operatorname{artanh}(\sqrt c \lVert \exp_0 z \rVert) = 2 \lVert z
    \rVert` in every curvature. The log gets ``hyperclip/radius_text``, ``hyperclip/radius_pixel``
    (means), ``hyperclip/clipped_vision`` and ``clipped_text`` (fractions of weight rows at the
    largest length) and ``hyperclip/curvature``; the visualizer gets a histogram of the radii.

    (The official code reports 7.5 at initialization, which is the largest radius at c = 1, hence
    the fraction beside it.)

    Args:
        interval: Training iterations between two entries.

    Raises:
        ValueError: If ``interval`` is not positive; before training, if the model has no adapter.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 500):
        check_at_least(1, interval=interval)
        self.interval = interval
        self._open = ExitStack()
        self._found: dict[str, Tensor] | None = None

    def before_train(self, runner: Runner) -> None:
        """Checks the model before the first iteration."""
        adapter_of(runner)

    def _close(self) -> dict[str, Tensor] | None:
        """Ends the observation; returns what it has seen, None where none was open."""
        found, self._found = self._found, None
        self._open.close()
        return found

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Asks the model for its embeddings where this iteration is logged."""
        self._close()
        if self.every_n_train_iters(runner, self.interval):
            self._found = self._open.enter_context(observing())

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Logs radii, clipped fractions and the curvature, where the observation was open.

        Raises:
            ValueError: If the model has no adapter, or did not show its embeddings.
        """
        found = self._close()
        if found is None:
            return
        adapter = adapter_of(runner)
        if not {'text', 'pixels'} <= found.keys():
            raise ValueError(
                'HyperbolicRadiusHook needs a model that shows its text and pixel embeddings, such '
                f'as OpenVocabSegmentor, got {sorted(found)} of {type(runner.model).__name__}'
            )
        radii = {
            'text': hyperbolic_radius(found['text'], -1),
            'pixel': hyperbolic_radius(found['pixels'], 1),
        }
        scalars = {f'radius_{name}': radius.mean() for name, radius in radii.items()}
        if adapter.target == 'weight':
            scalars |= {f'clipped_{name}': value for name, value in adapter.clipped().items()}
        scalars['curvature'] = torch.tensor(adapter.curvature['vision'])
        for name, value in scalars.items():
            runner.message_hub.update_scalar(f'train/hyperclip/{name}', value.item())
        picture = draw_histogram({name: radius.cpu() for name, radius in radii.items()})
        runner.visualizer.add_image('hyperclip_radius', picture, step=runner.iter + 1)


def hyperbolic_radius(embeddings: Tensor, dim: int) -> Tensor:
    """Distances ``2 |z|`` of embeddings from the origin.

    Args:
        embeddings: Embeddings along ``dim``.
        dim: Their dimension.

    Returns:
        All radii ``(N,)``, float32.
    """
    return 2 * safe_norm(embeddings.detach().float().movedim(dim, -1)).flatten()


def draw_histogram(radii: dict[str, Tensor]) -> np.ndarray:
    """Draws histograms of radii.

    Args:
        radii: Radii ``(N,)`` by what they are of.

    Returns:
        RGB picture ``(H, W, 3)``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), dpi=100, layout='constrained')
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    edges = np.histogram_bin_edges(torch.cat(list(radii.values())).numpy(), bins=60)
    for name, values in radii.items():
        axes.hist(values.numpy(), edges, density=True, histtype='stepfilled', alpha=0.6, label=name)
    axes.set(xlabel='hyperbolic radius', ylabel='density')
    axes.legend(frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
