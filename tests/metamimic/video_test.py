"""Tests of metamimic.video."""

import pathlib
import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from metamimic import video


def _ramp(length: int, height: int = 48, width: int = 64) -> np.ndarray:
  """Frames, each of one grey level: 10, 20, 30, ..."""
  levels = 10 * np.arange(1, length + 1, dtype=np.uint8)
  return np.broadcast_to(levels[:, None, None, None], (length, height, width, 3)).copy()


def test_what_is_written_is_read_back(tmp_path: pathlib.Path) -> None:
  path = video.write(tmp_path / 'new' / 'demo_0.mp4', _ramp(7))
  read = video.frames(path)
  assert read.shape == (7, 48, 64, 3) and read.dtype == np.uint8
  np.testing.assert_allclose(read.mean((1, 2, 3)), 10 * np.arange(1, 8), atol=3)
  assert [p.name for p in path.parent.iterdir()] == ['demo_0.mp4']


def test_is_what_browsers_play(tmp_path: pathlib.Path) -> None:
  path = video.write(tmp_path / 'a.mp4', _ramp(50))
  said = subprocess.run(
    [imageio_ffmpeg.get_ffmpeg_exe(), '-i', str(path)], capture_output=True, text=True
  ).stderr
  assert re.search(r'Video: h264.*yuv420p.* 64x48.* 25 fps', said), said
  assert 'Duration: 00:00:02.00' in said
  content = path.read_bytes()
  assert content.index(b'moov') < content.index(b'mdat')  # Plays while it loads.


def test_odd_sizes_grow_by_a_pixel(tmp_path: pathlib.Path) -> None:
  path = video.write(tmp_path / 'a.mp4', _ramp(3, 31, 45))
  assert video.frames(path).shape == (3, 32, 46, 3)


def test_a_failed_write_leaves_the_old_video(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = video.write(tmp_path / 'a.mp4', _ramp(3))
  before = path.read_bytes()
  monkeypatch.setattr(imageio_ffmpeg, 'count_frames_and_secs', lambda path: (2, 0.08))
  with pytest.raises(OSError, match=r'a\.mp4: ffmpeg wrote 2 of 5 frames'):
    video.write(path, _ramp(5))
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ['a.mp4']


@pytest.mark.parametrize(
  'name, frames, message',
  [
    ('a.avi', _ramp(2), 'a.avi: expected a name that ends in .mp4'),
    ('a.mp4', _ramp(2)[0], 'a.mp4: frames are uint8 .48, 64, 3.; expected uint8'),
    ('a.mp4', _ramp(2) / 255, 'a.mp4: frames are float64'),
    ('a.mp4', _ramp(2)[:0], 'a.mp4: frames are empty'),
  ],
)
def test_write_refuses(
  tmp_path: pathlib.Path, name: str, frames: np.ndarray, message: str
) -> None:
  with pytest.raises(ValueError, match=message):
    video.write(tmp_path / name, frames)
  assert not list(tmp_path.iterdir())


def test_reading_what_is_no_video(tmp_path: pathlib.Path) -> None:
  with pytest.raises(FileNotFoundError, match=r'a\.mp4: no such video'):
    video.frames(tmp_path / 'a.mp4')
  (tmp_path / 'a.mp4').write_bytes(b'no video')
  with pytest.raises(OSError):
    video.frames(tmp_path / 'a.mp4')


def test_side_by_side_pads_the_shorter() -> None:
  left, right = _ramp(3), _ramp(5)
  joined = video.side_by_side(left, right, ('demonstration', 'agent'))
  height = joined.shape[1]
  bar = height - 48
  assert joined.shape == (5, height, 2 * 64 + 4, 3) and bar > 8
  np.testing.assert_array_equal(joined[:3, bar:, :64], left)
  np.testing.assert_array_equal(joined[3:, bar:, :64], left[[2, 2]])
  np.testing.assert_array_equal(joined[:, bar:, -64:], right)
  assert (joined[:, :, 64:68] == 255).all()


def test_captions_stand_above_their_side_and_fit() -> None:
  pictures = _ramp(1, 100, 120)
  joined = video.side_by_side(pictures, pictures, ('one', ''))
  bar = joined.shape[1] - 100
  assert joined[0, :bar, :120].min() < 100  # Text.
  assert joined[0, :bar, 120:].min() == 255
  long = video.side_by_side(pictures, pictures, ('a long caption ' * 9, ''))
  assert long.shape == joined.shape
  assert (long[0, :bar, 120:] == 255).all()


def test_side_by_side_refuses() -> None:
  with pytest.raises(ValueError, match='expected the same size on both sides'):
    video.side_by_side(_ramp(2), _ramp(2, 32), ('a', 'b'))
  with pytest.raises(ValueError, match='1 captions; expected 2'):
    video.side_by_side(_ramp(2), _ramp(2), ('a',))
  with pytest.raises(ValueError, match='right: frames are empty'):
    video.side_by_side(_ramp(2), _ramp(0), ('a', 'b'))
