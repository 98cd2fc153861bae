# HELM-D, 115 M parameters: dense, fully hyperbolic.
# A model without a data set yet: give it a train_dataloader of batches of input_ids and doc_ids
# (B, 2048); 128,256 ids (Llama 3).
# Not trained here; the paper's benchmark scores are near chance for all models of this size.
_base_ = ['_base_/schedules/helm_5b.py', '_base_/default_runtime_language.py']
model = dict(
    type='hyper_mm.HelmForCausalLM',
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        vocab_size=128256,
        dims=389,
        depth=6,
        attention=dict(type='LorentzAttention', num_heads=6),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=1559),
        max_length=2048,
    ),
)
