"""Pictures as observations: from which cameras, and of which size.

Declarations only: whoever draws them is `rendering`, and whoever does not ask for any
needs no OpenGL.
"""

from collections.abc import Mapping
import dataclasses

from dm_env import specs
import numpy as np

_GROUP = 'pixels'


@dataclasses.dataclass(frozen=True)
class Camera:
  """Where one looks from."""

  target: tuple[float, float, float]
  """What is in the middle of the picture, m, in the frame of reference."""
  distance: float
  """From there, m."""
  azimuth: float
  """Direction of looking, degrees about z; 90 is along y, in the world to the arm."""
  elevation: float
  """Degrees; above 0 one looks along z, in the world upwards."""
  field_of_view: float = 42.0
  """Degrees, from top to bottom."""
  in_hand: bool = False
  """Whether the frame of reference is the hand's, with its origin between the
  fingertips and z the way that they point, and not the world's. The hand then carries
  the camera."""


CAMERAS = {
  # As close as the hand at the top of its reach and bricks at the edge allow.
  'front': Camera((0.0, 0.0, 0.19), 0.68, 90.0, -32.0),
  # What moves along the direction of looking hardly moves in a picture of `front`.
  'side': Camera((0.0, 0.0, 0.19), 0.68, 0.0, -32.0),
  'overview': Camera((0.0, 0.02, 0.16), 0.8, 90.0, -34.0),
  # Between two of the fingers, which leave free what they are about to grasp. So wide
  # that a brick is in sight from where episodes start.
  'wrist': Camera((0.0, 0.0, 0.07), 0.25, 270.0, 65.0, 72.0, in_hand=True),
}
"""By name; `overview` is for people to look at."""


def get(name: str) -> Camera:
  """Returns the camera called `name`.

  Raises:
    ValueError: there is none; the message lists those there are.
  """
  try:
    return CAMERAS[name]
  except KeyError:
    raise ValueError(f'no camera {name!r}; there are {list(CAMERAS)}') from None


def group(camera: str) -> str:
  """Returns the name of the observation group of a camera's pictures."""
  return f'{_GROUP}/{camera}'


@dataclasses.dataclass(frozen=True)
class Pictures:
  """What pictures an observation has: a group `pixels/<camera>` for each camera."""

  cameras: tuple[str, ...] = ('front',)
  """Names in `CAMERAS`."""
  height: int = 64
  """Pixels."""
  width: int = 64
  """Pixels."""

  def __post_init__(self) -> None:
    """Validates.

    Raises:
      ValueError: names the field, what was found and what was expected.
    """
    if not self.cameras or len(set(self.cameras)) != len(self.cameras):
      raise ValueError(f'cameras are {self.cameras}; expected one or more, distinct')
    for name in self.cameras:
      get(name)
    check_size((self.height, self.width))

  @property
  def size(self) -> tuple[int, int]:
    """Height and width, in pixels."""
    return self.height, self.width

  def spec(self) -> dict[str, specs.Array]:
    """Returns uint8 (height, width, 3) by group: red, green, blue, top row first."""
    return {
      group(name): specs.Array((*self.size, 3), np.uint8, name=group(name))
      for name in self.cameras
    }

  def stack(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the pictures of all cameras as one.

    Args:
      observation: by group, (..., height, width, 3).

    Returns:
      uint8 (..., height, width, 3 x cameras), a view if there is one camera.
    """
    if len(self.cameras) == 1:
      return observation[group(self.cameras[0])]
    return np.concatenate([observation[group(name)] for name in self.cameras], -1)

  @property
  def shape(self) -> tuple[int, int, int]:
    """Of the pictures of all cameras as one: height, width, 3 x cameras."""
    return (*self.size, 3 * len(self.cameras))


def check_size(size: tuple[int, int]) -> None:
  """Checks the size of a picture.

  Args:
    size: height and width, in pixels.

  Raises:
    ValueError: it is not two positive numbers.
  """
  if len(size) != 2 or min(size) < 1:
    raise ValueError(f'size is {size}; expected (height, width), each above 0')
