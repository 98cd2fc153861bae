# Episodes whose query is the support in the style of another site, as in FedDG (CVPR 2021)
episodic = dict(
    type='hyper_mm.EpisodicSegmentor',
    inner_lr=1e-3,
    clip=100.0,
    boundary=dict(temperature=0.05, loss_weight=0.1),
)
# banks are those of the images as they are: low frequencies survive the resizing
style_mix = dict(type='hyper_mm.FrequencyAmplitudeMix', band=0.01)
pack_episode = dict(type='hyper_mm.PackEpisodicSegInputs')
