"""mmengine's access to local files, with files that appear whole."""

from __future__ import annotations

from os import PathLike

from mmengine.fileio import LocalBackend, register_backend

from hyper_mm.engine.records import write_bytes


class AtomicLocalBackend(LocalBackend):
    """Writes a local file in one step: a reader finds the old content or the new one, not a part.

    A checkpoint is written through it, so a process that is killed, a machine that stops or a full
    disk leaves the earlier checkpoint as it was.
    """

    def put(self, obj: bytes | memoryview, filepath: str | PathLike) -> None:
        """Writes bytes.

        Args:
            obj: The content.
            filepath: The file; its folder is made.
        """
        write_bytes(filepath, obj)

    def put_text(self, obj: str, filepath: str | PathLike, encoding: str = 'utf-8') -> None:
        """Writes a text.

        Args:
            obj: The text.
            filepath: The file; its folder is made.
            encoding: Its encoding.
        """
        write_bytes(filepath, obj.encode(encoding))


def install() -> None:
    """Makes it mmengine's backend of local files (its name there is ``'local'``)."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
