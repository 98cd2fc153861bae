# Language reference and docstrings of Python as a text of 0.4 M tokens; nothing is downloaded:
#   python tools/dataset_converters/python_docs.py data/pydoc/pydoc.jsonl
#   python tools/dataset_converters/tokenize_text.py data/pydoc_tokens data/pydoc/pydoc.jsonl
#       --columns text --group source --val-share 0.1 --tune-share 0.05 --compact
# 7,356 ids of CLIP's tokenizer with Python 3.11.7; other versions have other ones.
_base_ = './hierarcaps_tokens.py'
data_root = '{{$HYPER_MM_DATA:data}}/pydoc_tokens'
vocab_size = 7680
train_dataloader = dict(dataset=dict(data_root=data_root, vocab_size=vocab_size))
val_dataloader = dict(dataset=dict(data_root=data_root, vocab_size=vocab_size))
test_dataloader = val_dataloader
