import pathlib

from metamimic import notices


def test_a_notice_is_one_line(tmp_path: pathlib.Path) -> None:
  notices.tell(tmp_path, 'the disk\n  is full')
  notices.tell(tmp_path, 'again')
  assert (tmp_path / notices.FILE).read_text() == 'the disk is full\nagain\n'


def test_where_none_can_be_kept_nothing_happens(tmp_path: pathlib.Path) -> None:
  notices.tell(tmp_path / 'gone', 'the disk is full')
  assert list(tmp_path.iterdir()) == []
