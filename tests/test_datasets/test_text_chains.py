"""HierarCaps' caption chains and HyperLex's pairs: what is read, and what is refused."""

import gzip
import zipfile

import numpy as np
import pytest
from hypothesis import given

from hyper_mm.datasets.text_chains import HierarCapsDataset, HyperLexDataset, PackTexts

from ..helpers.fuzz import FAST, changed, reads

CHAIN = 'thing => cup => red cup => A red cup on a table.'
OTHER = 'animal => dog => small dog => A small dog, on a sofa.'
HEADER = 'WORD1 WORD2 POS TYPE AVG_SCORE AVG_SCORE_0_10 STD SCORES..\n'


def train_file(folder, *rows, columns='positive,negative,image_url', name='train.csv.gz'):
    path = folder / name
    text = '\n'.join([columns, *(','.join(f'"{cell}"' for cell in row) for row in rows)])
    with (gzip.open if name.endswith('gz') else open)(path, 'wt') as file:
        file.write(text)
    return str(path)


class TestHierarCaps:
    @pytest.mark.parametrize('name', ['train.csv.gz', 'train.csv'])
    def test_train_rows_with_and_without_image(self, tmp_path, name):
        file = train_file(tmp_path, (CHAIN, OTHER, 'http://x/a.jpg'), name=name)
        (item,) = HierarCapsDataset(file)
        assert item['texts'] == ['thing', 'cup', 'red cup', 'A red cup on a table.']
        assert item['negatives'][-1] == 'A small dog, on a sofa.'
        assert item['task'] == 'chains' and item['where'] == f'{file}, row 1'
        short = train_file(tmp_path, (CHAIN, OTHER), columns='positive,negative', name='b.csv')
        assert len(HierarCapsDataset(short)) == 1

    def test_test_rows_have_images(self, tmp_path):
        (tmp_path / 'images').mkdir()
        (tmp_path / 'images' / 'a.jpg').touch()
        file = train_file(tmp_path, ('0', CHAIN, 'http://x/a.jpg'), columns='id,captions,image_url')
        (item,) = HierarCapsDataset(file, mode='test', data_root=str(tmp_path))
        assert item['img_path'].endswith('images/a.jpg')
        assert item['image_id'] == 'a.jpg'
        assert item['task'] == 'hierarcaps'

    def test_images_of_another_file_are_left_out(self, tmp_path):
        rows = [(CHAIN, OTHER, f'http://x/{name}.jpg') for name in 'abca']
        train_file(tmp_path, *rows)
        test = [('0', CHAIN, f'http://y/{name}.jpg') for name in 'ad']
        train_file(tmp_path, *test, columns='id,captions,image_url', name='test.csv')
        data = HierarCapsDataset(
            'train.csv.gz', data_root=str(tmp_path), exclude_images_of='test.csv'
        )
        assert [item['image_id'] for item in data] == ['b.jpg', 'c.jpg']
        train_file(tmp_path, (CHAIN, OTHER), columns='positive,negative', name='none.csv')
        with pytest.raises(ValueError, match=r"no column \['image_url'\]"):
            HierarCapsDataset('none.csv', data_root=str(tmp_path), exclude_images_of='test.csv')

    @pytest.mark.parametrize(
        ('row', 'message'),
        [
            (('a => b => c', OTHER), r'row 2: positive must have 4 tiers.*got 3'),
            ((CHAIN, 'a => b => c => d => e'), r'row 2: negative must have 4 tiers.*got 5'),
            (('a =>  => c => d', OTHER), 'row 2: positive has an empty caption'),
            (('', OTHER), 'row 2: positive is empty'),
            ((CHAIN, ''), 'row 2: negative is empty'),
            ((CHAIN,), 'line 3 must have 2 cells, as the header, got 1'),
        ],
    )
    def test_bad_row(self, tmp_path, row, message):
        file = train_file(tmp_path, (CHAIN, OTHER), row, columns='positive,negative')
        with pytest.raises(ValueError, match=message):
            HierarCapsDataset(file)

    def test_bad_files(self, tmp_path):
        file = train_file(tmp_path, (CHAIN,), columns='positive')
        with pytest.raises(ValueError, match=r"no column \['negative'\], only"):
            HierarCapsDataset(file)
        with pytest.raises(FileNotFoundError, match='missing.csv'):
            HierarCapsDataset(str(tmp_path / 'missing.csv'))
        columns = 'id,captions,image_url'
        file = train_file(tmp_path, ('0', CHAIN, 'http://x/gone.jpg'), columns=columns)
        with pytest.raises(FileNotFoundError, match=r'row 1: image .*gone.jpg'):
            HierarCapsDataset(file, mode='test', data_root=str(tmp_path))
        file = train_file(tmp_path, ('0', CHAIN, ''), columns=columns)
        with pytest.raises(ValueError, match='row 1: image_url is empty'):
            HierarCapsDataset(file, mode='test', data_root=str(tmp_path))

    def test_quotes_encodings_and_torn_files(self, tmp_path):
        good = f'"{CHAIN}","{OTHER}"'
        path = tmp_path / 'a.csv'
        path.write_text(f'\ufeffpositive,negative\n{good}\n')  # as spreadsheets write it
        assert len(HierarCapsDataset(str(path))) == 1
        # a quote that is not closed joins all rows up to the next one
        path.write_text(f'positive,negative\n"{CHAIN},x\n{good}\n{good}\n')
        with pytest.raises(ValueError, match=r'a\.csv, row that begins at line 2: .*quote'):
            HierarCapsDataset(str(path))
        path.write_bytes(f'positive,negative\n{good}\ncafé => b => c => d,x'.encode('latin-1'))
        with pytest.raises(ValueError, match=r'a\.csv, line 3 must be UTF-8'):
            HierarCapsDataset(str(path))
        path.write_text('positive,negative\n')
        with pytest.raises(ValueError, match=r'a\.csv has no rows'):
            HierarCapsDataset(str(path))
        path.write_text('')
        with pytest.raises(ValueError, match=r'a\.csv is empty'):
            HierarCapsDataset(str(path))
        torn = tmp_path / 'b.csv.gz'
        torn.write_bytes(gzip.compress(f'positive,negative\n{good}\n'.encode())[:40])
        with pytest.raises(ValueError, match=r'b\.csv\.gz is no whole gzip file'):
            HierarCapsDataset(str(torn))
        torn.write_text('positive,negative\n')
        with pytest.raises(ValueError, match=r'b\.csv\.gz is no whole gzip file'):
            HierarCapsDataset(str(torn))

    @given(
        changed(f'positive,negative,image_url\n"{CHAIN}","{OTHER}",a\n{CHAIN},{CHAIN},b\n'.encode())
    )
    @FAST
    def test_damaged_files(self, tmp_path, data):
        path = tmp_path / 'a.csv'
        path.write_bytes(data)
        found = reads(lambda: HierarCapsDataset(str(path)), 'a.csv')
        for item in found or ():
            assert len(item['texts']) == len(item['negatives']) == 4

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(mode='val'), "mode must be one of .*'val'"),
            (dict(tiers=1), 'tiers must be at least 2, got 1'),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            HierarCapsDataset('x.csv', **options)


class TestHyperLex:
    def test_pairs(self, tmp_path):
        path = tmp_path / 'a.txt'
        path.write_text(HEADER + 'dog animal N hyp-1 5.5 9.1 1 6 5\nrun move V hyp-1 4 6.6 1 4\n')
        dog, run = HyperLexDataset(str(path), template='a photo of a {}')
        assert dog['texts'] == ['a photo of a dog', 'a photo of a animal']
        assert (dog['pos'], dog['score'], run['pos']) == ('N', 5.5, 'V')

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('', 'must begin with columns'),
            ('a b c\n', 'must begin with columns'),
            (HEADER, 'a.txt has no pairs'),
            (HEADER + 'dog animal N x nan\n', 'row 1: POS must be'),
            (HEADER + 'dog animal N\n', 'row 1: no word pair'),
            (HEADER + 'dog animal N x high\n', 'row 1: no word pair'),
            (HEADER + 'dog animal X x 3\n', 'row 1: POS must be'),
            (HEADER + 'dog animal N x 7\n', 'row 1: POS must be'),
        ],
    )
    def test_bad_file(self, tmp_path, text, message):
        path = tmp_path / 'a.txt'
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            HyperLexDataset(str(path))

    @given(changed((HEADER + 'dog animal N hyp-1 5.5 9.1\nrun move V hyp-1 4 6.6\n').encode()))
    @FAST
    def test_damaged_files(self, tmp_path, data):
        path = tmp_path / 'a.txt'
        path.write_bytes(data)
        for item in reads(lambda: HyperLexDataset(str(path)), 'a.txt') or ():
            assert 0 <= item['score'] <= 6

    def test_bad_template(self):
        with pytest.raises(ValueError, match='template'):
            HyperLexDataset('a.txt', template='word')


def test_pack():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    item = PackTexts()(dict(task='hierarcaps', texts=['a'], img=image, other=1))
    assert item['inputs'].shape == (3, 2, 4) and item['inputs'][1, 0, 1] == image[0, 1, 1]
    assert item['data_samples'].texts == ['a'] and 'other' not in item['data_samples']
    assert PackTexts()(dict(task='chains', texts=['a']))['inputs'] is None


def test_real_data(data_dir, tmp_path):
    folder = data_dir / 'hierarcaps'
    if not folder.is_dir():
        pytest.skip('no hierarcaps in the data folder')
    test = HierarCapsDataset('hierarcaps_test.csv', mode='test', data_root=str(folder))
    assert len({item['image_id'] for item in test}) == len(test)
    expanded = HierarCapsDataset('hierarcaps_test_expanded.csv.gz', data_root=str(folder))
    assert len(expanded[0]['negatives']) == 4
    apart = HierarCapsDataset(
        'hierarcaps_test_expanded.csv.gz',
        data_root=str(folder),
        exclude_images_of='hierarcaps_test.csv',
    )
    assert 0 < len(apart) < len(expanded)
    assert not {item['image_id'] for item in test} & {item['image_id'] for item in apart}
    with zipfile.ZipFile(data_dir / 'hyperlex' / 'hyperlex-data.zip') as archive:
        archive.extract('hyperlex-all.txt', tmp_path)
    pairs = HyperLexDataset('hyperlex-all.txt', data_root=str(tmp_path))
    assert {item['pos'] for item in pairs} == {'N', 'V'} and len(pairs) == 2616
