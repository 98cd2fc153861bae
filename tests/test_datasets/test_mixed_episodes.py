"""Episodes of several kinds of task in one stream."""

import pytest

for name in ('mmseg', 'mmdet', 'mmpretrain'):
    pytest.importorskip(name)


from hyper_mm.registry import DATASETS  # noqa: E402
from tests.helpers.mixed_tasks import episode_configs, mixed, register_scopes  # noqa: E402

pytestmark = [pytest.mark.mmseg, pytest.mark.mmdet, pytest.mark.mmpretrain]


@pytest.fixture(scope='module')
def datasets(tmp_path_factory):
    return episode_configs(tmp_path_factory.mktemp('scenes'))


@pytest.fixture(autouse=True)
def _scopes():
    register_scopes()


def test_the_stream_draws_all_kinds(datasets):
    config = mixed(datasets, num_episodes=30, weights=dict(seg=1, det=1, cls=2))
    data = DATASETS.build(config)
    items = [data[i] for i in range(12)]
    kinds = [item.support['task'] for item in items]
    assert {*kinds} == {'seg', 'det', 'cls'} and len(data) == 30 and data.queries == 3
    assert data.metainfo['tasks']['det'] == data.datasets['det'].metainfo
    sizes = dict(seg=(2, 1), det=(2, 2), cls=(3, 3))
    for item in items:
        task = item.query['task']
        assert (len(item.support['inputs']), len(item.query['inputs'])) == sizes[task]
        assert all(sample.task == task for sample in item.query['data_samples'])
    again = DATASETS.build(config)
    assert kinds == [again[i].support['task'] for i in range(12)]
    again.seed = 1
    assert kinds != [again[i].support['task'] for i in range(12)]
    with pytest.raises(IndexError, match='index must be 0 to 29, got 30'):
        data[30]
    # the length of the stream is its own, not that of its parts
    one = DATASETS.build(mixed(dict(cls=dict(datasets['cls'], num_episodes=1)), num_episodes=3))
    assert len([*one]) == 3
    one = DATASETS.build(mixed(dict(cls=datasets['cls'])))
    paths = [[s.img_path for s in one[i].support['data_samples']] for i in (0, 0, 1)]
    assert paths[0] == paths[1] != paths[2]


def test_bad_input(datasets):
    with pytest.raises(ValueError, match='at least one'):
        DATASETS.build(mixed({}))
    with pytest.raises(ValueError, match='weights'):
        DATASETS.build(mixed(datasets, weights=dict(seg=1)))
    with pytest.raises(ValueError, match='num_episodes'):
        DATASETS.build(mixed(datasets, num_episodes=0))
    with pytest.raises(ValueError, match='seed'):
        DATASETS.build(mixed(datasets, seed=-1))
    with pytest.raises(TypeError, match='EpisodeDataset'):
        DATASETS.build(mixed(dict(seg=datasets['seg']['dataset'])))
