# CLIP ViT-B/16 of OpenAI, frozen; a config gives the prompts. The weights are downloaded on first
# use, or a file: --cfg-options model.clip.pretrained=ViT-B-16.pt
model = dict(
    type='hyper_mm.PromptedCLIP',
    clip=dict(model='ViT-B-16-quickgelu', pretrained='openai'),
)
