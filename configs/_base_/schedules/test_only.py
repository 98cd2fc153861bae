# Of models that are not trained
test_cfg = dict(type='TestLoop')
