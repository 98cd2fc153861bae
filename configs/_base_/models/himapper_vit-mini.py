# Hi-Mapper of the miniature ViT: half as wide as by default, with half the leaves
himapper_mini = dict(
    in_channels=128, num_leaves=16, num_levels=3, width=64, num_heads=2, hyp_dim=64
)
