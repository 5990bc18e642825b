"""Videos that a browser plays: H.264 in MP4, through imageio-ffmpeg."""

from collections.abc import Sequence
import os
import pathlib

import imageio_ffmpeg
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

FPS = 25
"""Frames per second of real time: one a control step of 0.04 s."""

_GAP = 4  # Pixels between the two pictures.
_CAPTION_SHARE = 1 / 10  # Height of the caption bar, of the picture's.
_BAR_COLOUR = (255, 255, 255)
_TEXT_COLOUR = (40, 40, 40)
_MIN_TEXT = 9  # Pixels.


def write(
  path: str | os.PathLike[str], frames: np.ndarray, fps: float = FPS
) -> pathlib.Path:
  """Writes a video, to a temporary name first; returns its path.

  Args:
    path: ends in .mp4; its directory is made where it is missing.
    frames: uint8 (T, H, W, 3). Odd sizes grow by a pixel (yuv420p, the only format
      that every browser plays, has colours for pairs of pixels).
    fps: frames per second.

  Raises:
    ValueError: the frames have another shape or type, there are none, or the path has
      another ending.
    OSError: ffmpeg could not write the file.
  """
  target = pathlib.Path(path)
  if target.suffix != '.mp4':
    raise ValueError(f'{target}: expected a name that ends in .mp4')
  _check(frames, str(target))
  odd = ((0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0))
  height, width = frames.shape[1] + odd[0][1], frames.shape[2] + odd[1][1]
  target.parent.mkdir(parents=True, exist_ok=True)
  temporary = target.with_name(f'.{target.stem}.{os.getpid()}.tmp.mp4')
  writer = imageio_ffmpeg.write_frames(
    str(temporary),
    (width, height),
    fps=fps,
    codec='libx264',
    pix_fmt_out='yuv420p',
    quality=None,
    macro_block_size=2,
    output_params=['-crf', '23', '-preset', 'veryfast', '-movflags', '+faststart'],
  )
  try:
    writer.send(None)
    for frame in frames:
      writer.send(np.ascontiguousarray(np.pad(frame, odd, mode='edge')))
    writer.close()
    _verify(temporary, target, len(frames))
    os.replace(temporary, target)
  finally:
    writer.close()
    temporary.unlink(missing_ok=True)
  return target


def frames(path: str | os.PathLike[str]) -> np.ndarray:
  """Reads a video: uint8 (T, H, W, 3).

  Raises:
    OSError: there is no such file, or ffmpeg cannot read it.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(f'{path}: no such video')
  reader = imageio_ffmpeg.read_frames(str(path))
  width, height = next(reader)['size']
  pictures = [np.frombuffer(data, np.uint8) for data in reader]
  if not pictures:
    raise OSError(f'{path}: holds no frames')
  return np.stack(pictures).reshape(-1, height, width, 3)


def side_by_side(
  left: np.ndarray, right: np.ndarray, captions: Sequence[str]
) -> np.ndarray:
  """Joins two videos into one, with a caption above each.

  Args:
    left: uint8 (T, H, W, 3).
    right: uint8 (T', H, W, 3). The shorter of the two stays on its last frame.
    captions: of the left and the right; shortened where they do not fit.

  Returns:
    uint8 (max(T, T'), H + the caption bar, 2 W + 4, 3).

  Raises:
    ValueError: the frames have another shape or type, pictures of the two differ in
      size, or there are not two captions.
  """
  _check(left, 'left')
  _check(right, 'right')
  if left.shape[1:] != right.shape[1:]:
    raise ValueError(
      f'pictures of {left.shape[1:3]} and {right.shape[1:3]} pixels; expected the '
      'same size on both sides'
    )
  if len(captions) != 2:
    raise ValueError(f'{len(captions)} captions; expected 2')
  height, width = left.shape[1:3]
  bar = max(round(height * _CAPTION_SHARE), _MIN_TEXT + 6)
  length = max(len(left), len(right))
  joined = np.empty((length, bar + height, 2 * width + _GAP, 3), np.uint8)
  joined[:] = _BAR_COLOUR
  for start, side, caption in zip(
    (0, width + _GAP), (left, right), captions, strict=True
  ):
    columns = slice(start, start + width)
    joined[:, :bar, columns] = _caption(caption, width, bar)
    joined[: len(side), bar:, columns] = side
    joined[len(side) :, bar:, columns] = side[-1]
  return joined


def _verify(written: pathlib.Path, target: pathlib.Path, length: int) -> None:
  """Raises OSError unless the video opens: a full disk shows up nowhere else."""
  try:
    found = imageio_ffmpeg.count_frames_and_secs(str(written))[0]
  except RuntimeError as e:
    raise OSError(f'{target}: ffmpeg wrote no video that opens') from e
  if found != length:
    raise OSError(f'{target}: ffmpeg wrote {found} of {length} frames')


def _caption(text: str, width: int, height: int) -> np.ndarray:
  picture = Image.new('RGB', (width, height), _BAR_COLOUR)
  draw = ImageDraw.Draw(picture)
  font = ImageFont.load_default(max(_MIN_TEXT, round(0.6 * height)))
  if draw.textlength(text, font) > width:
    while text and draw.textlength(text + '…', font) > width:
      text = text[:-1]
    text += '…'
  draw.text((width / 2, height / 2), text, _TEXT_COLOUR, font, anchor='mm')
  return np.asarray(picture)


def _check(pictures: np.ndarray, where: str) -> None:
  if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8:
    raise ValueError(
      f'{where}: frames are {pictures.dtype} {pictures.shape}; expected uint8 '
      '(T, H, W, 3)'
    )
  if not pictures.size:
    raise ValueError(f'{where}: frames are empty, of shape {pictures.shape}')
