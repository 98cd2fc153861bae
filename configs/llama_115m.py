# LLaMA-like Euclidean twin of HELM-D: heads of 64 dimensions, as there without time.
# A model without a data set yet: give it a train_dataloader of batches of input_ids and doc_ids
# (B, 2048); 128,256 ids (Llama 3).
# Not trained here; the paper's benchmark scores are near chance for all models of this size.
_base_ = ['_base_/schedules/helm_5b.py', '_base_/default_runtime_language.py']
model = dict(
    type='hyper_mm.HelmForCausalLM',
    decoder=dict(
        type='hyper_mm.EuclideanDecoder',
        vocab_size=128256,
        dims=384,
        depth=6,
        attention=dict(type='RotaryAttention', num_heads=6),
        ffn=dict(type='SwiGLU', hidden_dims=1560),
        max_length=2048,
    ),
)
