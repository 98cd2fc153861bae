"""What a component publishes in a forward pass."""

from hyper_mm.models.utils.aux_losses import collect_losses


def run(component, *inputs):
    """Returns the output of a component, and what it publishes on the way."""
    with collect_losses() as scope:
        out = component(*inputs)
    return out, scope.total()
