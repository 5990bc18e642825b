"""What a scripted demonstrator's hand can do, as generators of actions.

Each skill yields one action a control step and reads the physics anew after each: the
caller advances the simulation in between. The arm moves by differential inverse
kinematics, the hand always pointing down; the person-like part (how fast, how high,
with which pauses and detours) is a `Style`.
"""

from collections.abc import Callable, Iterator
import dataclasses
import math

import mujoco
import numpy as np

from envs import scene as scene_lib

Actions = Iterator[np.ndarray]
"""Actions, (9,) float64 in [-1, 1]."""

_STEP = 0.04  # s, a control step
_POSITION_GAIN = 6.0  # 1/s
_ROTATION_GAIN = 3.0  # 1/s
_MAX_SPEED = 0.25  # m/s of the hand, before the style's factor
_MAX_TURN = 1.0  # rad/s about each axis
_DAMPING = 1e-3 * np.eye(6)  # keeps joint speeds finite where the arm is stretched

CLOSED = 1.0
"""Finger command that closes and then squeezes."""
GRASP_HEIGHT = 0.015
"""Height of the fingertips above an object's bottom face when it is grasped, m."""

_PUSH_SHAPE = 0.95  # rad; fingers further closed curl up, and pass above a brick
_PUSH_HEIGHT = 0.018  # m above the object's bottom face
_FINGERS_ASIDE = 0.015  # m from the middle of the three fingertips to the pinch
_RUN_UP = 0.065  # m from the pinch to the object where the hand goes down
_PUSH_LEAD = 0.03  # m by which the hand's target is ahead of it

_WORKSPACE = 0.15  # m; detours stay this close to the middle of the table
_CLEAR_HEIGHT = 0.12  # m; a detour with empty fingers passes over all that stands there


class SkillFailed(Exception):
  """A skill gave up; the message says in which phase and why."""


@dataclasses.dataclass(frozen=True)
class Style:
  """How a demonstrator moves."""

  speed: float
  """Factor on the speed of the arm."""
  hover: float
  """Height above the grasp at which the hand stops before going down, m."""
  lift: float
  """How high things are lifted, how far they are pushed and how widely the hand waves,
  as a factor on what the task asks for."""
  pre_shape: float
  """Angle of the open fingers while approaching, rad; smaller is wider open."""
  close_steps: int
  """Control steps spent closing the fingers."""
  detour: float
  """Distance of a detour's via point to the side, m."""
  detour_probability: float
  """Of a detour, at each place where one may be made."""
  pause_probability: float
  """Of a pause, at each place where one may be made."""


def yaw_of(quaternion: np.ndarray) -> float:
  """Returns the rotation about the vertical axis, rad, of (w, x, y, z)."""
  w, x, y, z = quaternion
  return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def wrap(angle: float, period: float) -> float:
  """Returns `angle` plus a multiple of `period`, in [-period / 2, period / 2)."""
  return (angle + period / 2) % period - period / 2


def above(position: np.ndarray, height: float) -> np.ndarray:
  """Returns the point `height` metres above `position`."""
  return np.array([position[0], position[1], position[2] + height])


class Hand:
  """The hand of one demonstrator in one scene."""

  phase: str
  """What it is doing, for the tally of rejections."""
  shape: float
  """Angle at which open fingers are kept, rad; at first the style's."""

  def __init__(
    self, scene: scene_lib.Scene, style: Style, rng: np.random.Generator
  ) -> None:
    """Takes hold of the scene, which the caller advances.

    Args:
      scene: the live scene.
      style: how to move.
      rng: for what differs each time: whether to pause, where to make a detour.
    """
    self.scene = scene
    self.style = style
    self.phase = 'start'
    self.shape = style.pre_shape
    self.rng = rng
    self._arm_limits = scene.velocity_limits[:6]
    self._finger_limits = scene.velocity_limits[6:]
    self._distance = self._angle = math.inf

  @property
  def yaw(self) -> float:
    """Present rotation of the hand about the vertical axis, rad."""
    rotation = self.scene.pinch_rotation
    return math.atan2(rotation[1, 0], rotation[0, 0])

  def shaped(self) -> np.ndarray:
    """Returns the finger command that brings the open fingers to `shape`."""
    error = self.shape - self.scene.fingers
    return np.minimum(np.maximum(error / (_STEP * self._finger_limits), -1), 1)

  def action(
    self,
    target: np.ndarray,
    yaw: float,
    fingers: float | None,
    speed: float = 1.0,
  ) -> np.ndarray:
    """Returns the action towards a pose of the hand.

    Args:
      target: position of the pinch, (3,), m.
      yaw: rotation about the vertical axis, rad; the hand points down.
      fingers: command to all fingers in [-1, 1]; None: open, at `shape`.
      speed: factor on the speed of the arm, on top of the style's.
    """
    rotation = self.scene.pinch_rotation
    cos, sin = math.cos(yaw), math.sin(yaw)
    wanted = np.array([[cos, sin, 0], [sin, -cos, 0], [0, 0, -1.0]])
    quaternion, turn = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, (wanted @ rotation.T).ravel())
    mujoco.mju_quat2Vel(turn, quaternion, 1.0)
    offset = target - self.scene.pinch_position
    self._distance = math.sqrt(offset @ offset)
    self._angle = math.sqrt(turn @ turn)

    twist = np.empty(6)
    twist[:3] = offset * min(_POSITION_GAIN, _MAX_SPEED / max(self._distance, 1e-9))
    twist[3:] = np.minimum(np.maximum(turn * _ROTATION_GAIN, -_MAX_TURN), _MAX_TURN)
    jacobian = self.scene.pinch_jacobian()
    joints = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING, twist)
    arm: np.ndarray = joints / self._arm_limits
    # All joints slow down together, so that the hand keeps its direction.
    arm *= speed * self.style.speed / max(1.0, abs(arm).max())
    action = np.empty(9)
    action[:6] = np.minimum(np.maximum(arm, -1), 1)
    action[6:] = self.shaped() if fingers is None else fingers
    return action

  def go(
    self,
    target: Callable[[], np.ndarray] | np.ndarray,
    yaw: Callable[[], float] | float,
    fingers: float | None,
    max_steps: int,
    distance: float = 0.008,
    angle: float = 0.1,
    speed: float = 1.0,
    must_arrive: bool = True,
  ) -> Actions:
    """Moves to a pose, until it is there.

    Args:
      target: position, m, (3,), or what gives it at the present moment.
      yaw: rotation about the vertical axis, rad, or what gives it.
      fingers: see `action`.
      max_steps: time-out at full speed; slower styles are given more.
      distance: how near is there, m.
      angle: how near is there, rad.
      speed: see `action`.
      must_arrive: whether running out of time is a failure.

    Raises:
      SkillFailed: it was not there in time.
    """
    for _ in range(int(max_steps / min(1.0, self.style.speed * speed))):
      position = target() if callable(target) else target
      action = self.action(position, yaw() if callable(yaw) else yaw, fingers, speed)
      if self._distance < distance and self._angle < angle:
        return
      yield action
    if must_arrive:
      raise SkillFailed(f'{self.phase}: time-out')

  def hold(
    self, steps: int, fingers: float | None, yaw: float | None = None
  ) -> Actions:
    """Stays where it is for some control steps."""
    target = self.scene.pinch_position
    yaw = self.yaw if yaw is None else yaw
    for _ in range(steps):
      yield self.action(target, yaw, fingers)

  def maybe_pause(self, fingers: float | None) -> Actions:
    """Stays for 4 to 15 control steps, if the demonstrator is in the mood."""
    if self.rng.random() < self.style.pause_probability:
      yield from self.hold(int(self.rng.integers(4, 16)), fingers)

  def maybe_detour(self, fingers: float | None, height: float) -> Actions:
    """Passes a via point to the side, if the demonstrator is in the mood.

    Args:
      fingers: see `action`.
      height: the via point is not lower than this, m.
    """
    if self.rng.random() >= self.style.detour_probability:
      return
    direction = self.rng.uniform(-math.pi, math.pi)
    x, y, z = self.scene.pinch_position
    via = np.array(
      [
        np.clip(x + self.style.detour * math.cos(direction), -_WORKSPACE, _WORKSPACE),
        np.clip(y + self.style.detour * math.sin(direction), -_WORKSPACE, _WORKSPACE),
        max(height, z + self.rng.uniform(-0.02, 0.06)),
      ]
    )
    phase, self.phase = self.phase, 'detour'
    yield from self.go(
      via,
      self.yaw,
      fingers,
      max_steps=40,
      distance=0.03,
      angle=math.inf,
      must_arrive=False,
    )
    self.phase = phase

  def approach(self, name: str, turn: float) -> Actions:
    """Goes above an object, then down to it, with open fingers.

    Args:
      name: the object.
      turn: rotation of the hand about the vertical axis relative to the object, rad.
    """

    def yaw() -> float:
      facing = yaw_of(self.scene.object_orientation(name)) + turn
      return self.yaw + wrap(facing - self.yaw, 2 * math.pi)

    def at(height: float) -> Callable[[], np.ndarray]:
      return lambda: above(self.scene.object_position(name), GRASP_HEIGHT + height)

    self.phase = 'approach'
    yield from self.maybe_detour(None, _CLEAR_HEIGHT)
    # Half a turn of the wrist takes 95 steps.
    yield from self.go(at(self.style.hover), yaw, None, max_steps=130, distance=0.012)
    yield from self.maybe_pause(None)
    self.phase = 'go down'
    yield from self.go(at(0.0), yaw, None, max_steps=60)

  def close(self, name: str) -> Actions:
    """Closes the fingers around an object."""
    self.phase = 'close'
    yaw, target = self.yaw, above(self.scene.object_position(name), GRASP_HEIGHT)
    for _ in range(self.style.close_steps):
      yield self.action(target, yaw, CLOSED)

  def lift(self, name: str, height: float) -> Actions:
    """Lifts what is between the fingers.

    Args:
      name: the object.
      height: in m; the style's factor is applied to it.

    Raises:
      SkillFailed: the object did not come along.
    """
    self.phase = 'lift'
    height *= self.style.lift
    start = self.scene.object_position(name)[2]
    target, yaw = above(self.scene.pinch_position, height), self.yaw
    yield from self.go(target, yaw, CLOSED, max_steps=80, distance=0.015, angle=0.3)
    if self.scene.object_position(name)[2] - start < height / 2:
      raise SkillFailed('lift: the object stayed behind')

  def place(
    self,
    name: str,
    spot: Callable[[], np.ndarray],
    facing: Callable[[], float],
    turn_period: float,
    clearance: float,
  ) -> Actions:
    """Carries what is held over a spot, lowers it, lets go and retracts.

    Args:
      name: the object held.
      spot: gives where the middle of its bottom face is to be, m, (3,).
      facing: gives its rotation about the vertical axis there, rad.
      turn_period: it may also be turned by any multiple of this, rad.
      clearance: how far above the spot to let go, m.
    """
    scene = self.scene

    def aim(extra: float) -> Callable[[], np.ndarray]:
      def target() -> np.ndarray:
        return scene.pinch_position + above(spot(), extra) - scene.object_position(name)

      return target

    def yaw() -> float:
      error = facing() - yaw_of(scene.object_orientation(name))
      return self.yaw + wrap(error, turn_period)

    self.phase = 'carry'
    yield from self.go(aim(0.75 * self.style.hover), yaw, CLOSED, max_steps=100)
    yield from self.maybe_pause(CLOSED)
    self.phase = 'lower'
    lower = aim(clearance)
    for step in range(int(60 / min(1.0, self.style.speed))):
      action = self.action(lower(), yaw(), CLOSED, speed=0.6)
      gap = scene.object_position(name)[2] - spot()[2]
      if self._distance < 0.003 or (step > 5 and gap < clearance + 0.001):
        break
      yield action
    self.phase = 'let go'
    turned = self.yaw
    yield from self.hold(14, -0.5, turned)
    yield from self.retract(-0.5, turned)

  def retract(self, fingers: float | None, yaw: float) -> Actions:
    """Rises by 10 cm and stays there for a moment."""
    self.phase = 'retract'
    target = above(self.scene.pinch_position, 0.10)
    yield from self.go(
      target,
      yaw,
      fingers,
      max_steps=40,
      distance=0.02,
      angle=math.inf,
      speed=0.6,
    )
    yield from self.hold(6, fingers, yaw)

  def push(self, name: str, direction: float, half: float, distance: float) -> Actions:
    """Pushes an object over the table with the fingertips, then retracts.

    Args:
      name: the object.
      direction: of the push, rad; along one of the object's sides.
      half: from the object's middle to the side that is pushed, m.
      distance: how far, m; the style's factor is applied to it.

    Raises:
      SkillFailed: the object was not moved so far.
    """
    scene = self.scene
    distance *= self.style.lift
    self.shape = _PUSH_SHAPE
    along = np.array([math.cos(direction), math.sin(direction), 0.0])
    # Either side of the hand may go first.
    yaw = self.yaw + wrap(direction - self.yaw, math.pi)
    # Fingertips are not in the middle of the hand.
    aside = _FINGERS_ASIDE * np.array([math.sin(yaw), -math.cos(yaw), 0.0])
    start = scene.object_position(name)

    def behind(height: float) -> Callable[[], np.ndarray]:
      return lambda: above(start - (half + _RUN_UP) * along + aside, height)

    def pushed() -> float:
      return float((scene.object_position(name) - start) @ along)

    self.phase = 'approach'
    yield from self.maybe_detour(None, _CLEAR_HEIGHT)
    height = _PUSH_HEIGHT + self.style.hover
    yield from self.go(behind(height), yaw, None, max_steps=130, distance=0.015)
    yield from self.maybe_pause(None)
    self.phase = 'go down'
    yield from self.go(behind(_PUSH_HEIGHT), yaw, None, max_steps=60)
    self.phase = 'push'
    for _ in range(int(60 / min(1.0, self.style.speed))):
      if pushed() > distance:
        break
      done = (scene.pinch_position - start) @ along
      target = start + (done + _PUSH_LEAD) * along + aside
      yield self.action(above(target, _PUSH_HEIGHT), yaw, None)
    else:
      raise SkillFailed('push: the object stayed behind')
    self.phase = 'back off'
    back = scene.pinch_position - _PUSH_LEAD * along
    yield from self.go(back, yaw, None, max_steps=20, distance=0.01, must_arrive=False)
    yield from self.retract(None, yaw)

  def wave(self, middle: np.ndarray, width: float, swings: int) -> Actions:
    """Waves along the world's x.

    Args:
      middle: where, m, (3,).
      width: how far to either side, m; the style's factor is applied to it.
      swings: how often to go to a side.
    """
    width *= self.style.lift
    side = float(self.rng.choice([-1.0, 1.0]))
    targets = [middle]
    for i in range(swings):
      targets.append(middle + [side * (-1) ** i * width, 0.0, 0.0])
    targets.append(middle)
    yaw = self.yaw
    self.phase = 'wave'
    for target in targets:
      yield from self.go(
        target, yaw, None, max_steps=60, distance=0.015, angle=math.inf
      )
    yield from self.hold(6, None)
