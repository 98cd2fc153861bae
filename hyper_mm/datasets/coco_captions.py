"""Images with all of their captions, for image-text retrieval."""

from __future__ import annotations

from pathlib import Path

from hyper_mm.datasets.files import read_json, relative
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
        ValueError: For a file of another format or without images, an empty caption, one of an
            unknown image, an image that is listed twice, lies outside its folder or has no caption;
            the message names it.
        FileNotFoundError: If the file or an image is missing.

    Source: Chen et al., Microsoft COCO Captions (2015).
    """

    def load_data_list(self) -> list[dict]:
        """Reads and checks all images.

        Returns:
            ``task``, ``texts``, ``img_path``, ``image_id`` and ``where`` of every image.
        """
        path = self._file()
        content = read_json(path)
        keys = ('images', 'annotations')
        missing = [key for key in keys if not isinstance(content.get(key), list)]
        if missing:
            raise ValueError(f'{path} is no file of COCO captions: it has no {missing}, lists')
        for key in keys:
            for number, entry in enumerate(content[key]):
                _check(entry, key, f'{path}, {key}[{number}]')
        if not content['images']:
            raise ValueError(f'{path} has no images')
        texts: dict[int | str, list[str]] = {}
        for image in content['images']:
            if image['id'] in texts:
                raise ValueError(f'{path}, image {image["id"]!r} is listed twice')
            texts[image['id']] = []
        for annotation in content['annotations']:
            where = f'{path}, caption {annotation.get("id")!r}'
            caption = annotation['caption'].strip()
            if not caption:
                raise ValueError(f'{where} is empty')
            if annotation['image_id'] not in texts:
                raise ValueError(f'{where} is of an unknown image, {annotation["image_id"]!r}')
            texts[annotation['image_id']].append(caption)
        return [self._item(path, image, texts[image['id']]) for image in content['images']]

    def _item(self, path: Path, image: dict, texts: list[str]) -> dict:
        where = f'{path}, image {image["id"]}'
        file = Path(self.data_prefix['img_path']) / relative(image['file_name'], where)
        if not texts:
            raise ValueError(f'{where} has no caption')
        if not file.is_file():
            raise FileNotFoundError(f'{where}: {file} does not exist')
        return dict(
            task='retrieval', texts=texts, img_path=str(file), image_id=image['id'], where=where
        )


def _check(entry: object, key: str, where: str) -> None:
    """Refuses an entry without its fields, or with fields of another type."""
    number = (int, str)
    fields = dict(
        images=dict(id=number, file_name=str), annotations=dict(image_id=number, caption=str)
    )[key]
    for name, kind in fields.items():
        value = entry.get(name) if isinstance(entry, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f'{where} must be an object with {[*fields]}, got {str(entry)[:120]}')
