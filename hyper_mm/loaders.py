"""Importing this module registers hyper_mm's checkpoint loaders with mmengine's runner at once.

Importing :mod:`hyper_mm` alone does so when the runner is imported, before or after. A config that
names no component of ours, but reads ``timm-vit+ADDRESS``, imports one of the two:
``custom_imports = dict(imports=['hyper_mm.loaders'])``.
"""

from .checkpoints import install_checkpoint_loader

install_checkpoint_loader()
