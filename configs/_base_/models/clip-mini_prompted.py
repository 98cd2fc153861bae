# A small CLIP for images of 64 pixels, frozen; a config gives the prompts. Its weights are trained
# in minutes on PartScenes' pictures and captions:
#   python tools/experiments/pretrain_tiny_clip.py data/clip_mini.pt
model = dict(
    type='hyper_mm.PromptedCLIP',
    clip=dict(
        model=dict(
            embed_dim=128,
            quick_gelu=True,
            vision_cfg=dict(image_size=64, layers=3, width=128, head_width=32, patch_size=16),
            text_cfg=dict(context_length=77, vocab_size=49408, width=128, heads=4, layers=2),
        ),
        pretrained='{{$HYPER_MM_DATA:data}}/clip_mini.pt',
    ),
)
