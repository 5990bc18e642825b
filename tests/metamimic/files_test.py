import os
import pathlib

import pytest

from metamimic import files


def test_what_is_renamed_is_on_the_disk(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  done: list[str] = []
  replace = os.replace

  def fsync(descriptor: int) -> None:
    done.append(os.path.realpath(f'/proc/self/fd/{descriptor}'))

  def rename(source: str, target: str) -> None:
    done.append('renamed')
    replace(source, target)

  monkeypatch.setattr(os, 'fsync', fsync)
  monkeypatch.setattr(os, 'replace', rename)
  path = tmp_path / 'summary.json'
  files.write_json(path, {'steps': 3})
  assert done == [f'{path}.tmp', 'renamed', str(tmp_path)]
  assert files.read_json(path) == {'steps': 3}


def test_file_system_without_sync_of_folders_is_no_error(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  def refuse(descriptor: int) -> None:
    raise OSError('not supported')

  monkeypatch.setattr(os, 'fsync', refuse)
  files.sync(tmp_path)
  (tmp_path / 'file').touch()
  with pytest.raises(OSError, match='not supported'):
    files.sync(tmp_path / 'file')
