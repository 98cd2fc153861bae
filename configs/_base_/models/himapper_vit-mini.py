# Hi-Mapper of the miniature ViT: half as wide as by default, with half the leaves
himapper_mini = dict(
    in_channels=128,
    width=64,
    num_heads=2,
    tree=dict(num_leaves=16, num_levels=3),
    lift=dict(hyp_dim=64),
)
