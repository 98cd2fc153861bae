"""Images with all of their captions, for image-text retrieval."""

from __future__ import annotations

import json
from pathlib import Path

from hyper_mm.datasets.text_chains import TextDataset
from hyper_mm.registry import DATASETS


@DATASETS.register_module()
class CocoCaptionsDataset(TextDataset):
    """Images of COCO captions, each with all of its texts.

    It takes COCO's own files and those of the Karpathy split in the same format. mmpretrain's
    ``COCORetrieval`` reads them too, but is there only where transformers is installed.

    Args:
        ann_file: The json file, below ``data_root``.
        **kwargs: Arguments of ``mmengine.dataset.BaseDataset``: ``data_root``, ``data_prefix``
            (``dict(img_path=...)``, the folder of the images), ``pipeline``, ...

    Raises:
        ValueError: For a file of another format, an empty caption, one of an unknown image, or an
            image without captions; the message names it.
        FileNotFoundError: If the file or an image is missing.

    Source: Chen et al., Microsoft COCO Captions (2015).
    """

    def load_data_list(self) -> list[dict]:
        """Reads and checks all images.

        Returns:
            ``task``, ``texts``, ``img_path``, ``image_id`` and ``where`` of every image.
        """
        path = self._file()
        content = json.loads(path.read_text(encoding='utf-8'))
        missing = {'images', 'annotations'} - set(content)
        if missing:
            raise ValueError(f'{path} is no file of COCO captions: it has no {sorted(missing)}')
        texts: dict[int, list[str]] = {image['id']: [] for image in content['images']}
        for annotation in content['annotations']:
            where = f'{path}, caption {annotation["id"]}'
            caption = annotation.get('caption', '').strip()
            if not caption:
                raise ValueError(f'{where} is empty')
            if annotation['image_id'] not in texts:
                raise ValueError(f'{where} is of an unknown image, {annotation["image_id"]}')
            texts[annotation['image_id']].append(caption)
        return [self._item(path, image, texts[image['id']]) for image in content['images']]

    def _item(self, path: Path, image: dict, texts: list[str]) -> dict:
        where = f'{path}, image {image["id"]}'
        file = Path(self.data_prefix['img_path']) / image['file_name']
        if not texts:
            raise ValueError(f'{where} has no caption')
        if not file.is_file():
            raise FileNotFoundError(f'{where}: {file} does not exist')
        return dict(
            task='retrieval', texts=texts, img_path=str(file), image_id=image['id'], where=where
        )
