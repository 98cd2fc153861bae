"""A small CLIP of open_clip, with the same weights in each call."""

import open_clip
import torch

SMALL = dict(
    embed_dim=16,
    quick_gelu=True,
    vision_cfg=dict(image_size=32, layers=3, width=32, head_width=8, patch_size=8),
    text_cfg=dict(context_length=9, vocab_size=64, width=24, heads=3, layers=2),
)


def make_clip():
    torch.manual_seed(0)
    return open_clip.CLIP(**SMALL).eval()
