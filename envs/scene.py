"""Fast access to the parts of the physics that tasks, experts and rewards need."""

from collections.abc import Sequence
import math

import mujoco
import numpy as np

from envs import observations
from envs import simulator

_ARM_DOFS = 6


class Scene:
  """Live views of the arm and the objects of one compiled model.

  Every property reads the present physics; positions in m, angles in rad, world
  frame unless it says otherwise. Returned arrays are copies.
  """

  def __init__(
    self,
    task: simulator.composer.Task,
    physics: simulator.mjcf.Physics,
    layout: observations.Layout,
  ):
    """Looks up addresses in the model once.

    Args:
      task: a dm_control.manipulation task.
      physics: its compiled physics.
      layout: the observation's layout; its objects are, in order, the free bodies.
    """
    self.layout = layout
    model, data = physics.model.ptr, physics.data.ptr
    self._model, self._data = model, data
    hand = task.hand
    self._pinch = physics.bind(hand.tool_center_point).element_id
    # Views, because each access to an attribute of MjData builds a new array.
    self._qpos, self._qvel = data.qpos, data.qvel
    self._pinch_xpos = data.site_xpos[self._pinch]
    self._pinch_xmat = data.site_xmat[self._pinch]
    free = [
      j for j in range(model.njnt) if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE
    ]
    if len(free) != len(layout.objects):
      raise ValueError(
        f'the model has {len(free)} free bodies; expected {layout.objects}'
      )
    self._object_qpos, self._object_qvel, self._object_geoms = {}, {}, {}
    self._object_bodies: dict[str, int] = {}
    for name, joint in zip(layout.objects, free, strict=True):
      qpos, dof = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
      self._object_qpos[name] = self._qpos[qpos : qpos + 7]
      self._object_qvel[name] = self._qvel[dof : dof + 6]
      self._object_bodies[name] = int(model.jnt_bodyid[joint])
      self._object_geoms[name] = self._geoms_with(model.jnt_bodyid[joint])
    hand_body = physics.bind(hand.mjcf_model.worldbody.body[0]).element_id
    self._hand_geoms = self._geoms_with(hand_body)
    # What follows the arm's cosines and sines in an observation, and the objects.
    self._body_parts = (
      self._qpos[6:9],
      self._qvel[:9],
      self._pinch_xpos,
      self._pinch_xmat[:6],
    )
    self._object_parts = [
      part
      for name in layout.objects
      for part in (self._object_qpos[name], self._object_qvel[name])
    ]
    self.velocity_limits: np.ndarray = physics.model.actuator_ctrlrange[:, 1].copy()

  def _geoms_with(self, body: int) -> np.ndarray:
    """Returns which geoms belong to the same tree of bodies, (number of geoms,)."""
    roots = self._model.body_rootid
    return roots[self._model.geom_bodyid] == roots[body]

  @property
  def arm_joints(self) -> np.ndarray:
    """Angles of the arm's six joints, shape (6,)."""
    return self._qpos[:6].copy()

  @property
  def fingers(self) -> np.ndarray:
    """Angles of the three fingers, shape (3,); larger is more closed."""
    return self._qpos[6:9].copy()

  @property
  def finger_velocities(self) -> np.ndarray:
    """Angular velocities of the fingers, rad/s, shape (3,)."""
    return self._qvel[6:9].copy()

  @property
  def pinch_position(self) -> np.ndarray:
    """Position between the fingertips, shape (3,)."""
    return self._pinch_xpos.copy()

  @property
  def pinch_rotation(self) -> np.ndarray:
    """Orientation of the hand, shape (3, 3)."""
    return self._pinch_xmat.reshape(3, 3).copy()

  def pinch_jacobian(self) -> np.ndarray:
    """Returns d(position, rotation)/d(arm joints) of the pinch site, shape (6, 6)."""
    jacobian = np.empty((6, self._model.nv))
    mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], self._pinch)
    return jacobian[:, :_ARM_DOFS]

  def object_position(self, name: str) -> np.ndarray:
    """Returns the centre of the object's bottom face, shape (3,)."""
    return self._object_qpos[name][:3].copy()

  def object_orientation(self, name: str) -> np.ndarray:
    """Returns the object's unit quaternion (w, x, y, z), shape (4,)."""
    return self._object_qpos[name][3:].copy()

  def touching(self, name: str) -> bool:
    """Whether the arm or the hand is in contact with the object."""
    return self._least_distance(name, self._hand_geoms) <= 0

  def apart(self, name: str) -> bool:
    """Whether neither the arm nor another object is in contact with the object."""
    others = [geoms for other, geoms in self._object_geoms.items() if other != name]
    # At any distance within MuJoCo's margins: studs hold a brick without touching it.
    found = self._least_distance(
      name, np.logical_or.reduce([self._hand_geoms, *others])
    )
    return math.isinf(found)

  def _least_distance(self, name: str, others: np.ndarray) -> float:
    """Returns the least of any contact, m, below 0 if deep; infinity without one."""
    contact = self._data.contact
    geoms = contact.geom
    if not len(geoms):
      return math.inf
    first, second = geoms[:, 0], geoms[:, 1]
    obj = self._object_geoms[name]
    pairs = (obj[first] & others[second]) | (obj[second] & others[first])
    return float(contact.dist[pairs].min(initial=math.inf))

  def place_object(
    self, name: str, position: np.ndarray, orientation: np.ndarray
  ) -> None:
    """Puts an object somewhere, at rest.

    Args:
      name: of the object.
      position: of the centre of its bottom face, m, (3,).
      orientation: unit quaternion (w, x, y, z), (4,).
    """
    self._object_qpos[name][:3] = position
    self._object_qpos[name][3:] = orientation
    self._object_qvel[name][:] = 0
    mujoco.mj_forward(self._model, self._data)

  def move_object(self, name: str, offset: np.ndarray, turn: float) -> None:
    """Moves an object over the table.

    Args:
      name: of the object.
      offset: m, (2,), in the world's x and y.
      turn: rad, about the vertical.
    """
    qpos = self._object_qpos[name]
    qpos[:2] += offset
    rotation = np.array([math.cos(turn / 2), 0, 0, math.sin(turn / 2)])
    turned = np.empty(4)
    mujoco.mju_mulQuat(turned, rotation, qpos[3:])
    qpos[3:] = turned
    mujoco.mj_forward(self._model, self._data)

  def push_object(self, name: str, velocity: np.ndarray) -> None:
    """Adds to an object's velocity.

    Args:
      name: of the object.
      velocity: m/s, (2,), in the world's x and y.
    """
    self._object_qvel[name][:2] += velocity
    mujoco.mj_forward(self._model, self._data)

  def scale(self, mass: float, friction: float) -> None:
    """Changes the model, and with it every environment that shares it.

    Args:
      mass: factor on mass and inertia of the objects.
      friction: factor on the friction of every contact.
    """
    bodies = np.isin(
      self._model.body_rootid,
      [self._model.body_rootid[b] for b in self._object_bodies.values()],
    )
    self._model.body_mass[bodies] *= mass
    self._model.body_inertia[bodies] *= mass
    # Of all geoms, because a contact has the friction of the rougher one, and table and
    # fingers are rougher than objects.
    self._model.geom_friction *= friction
    mujoco.mj_setConst(self._model, self._data)

  def penetration(self) -> float:
    """Returns how deep objects are in anything else, m; 0 if they touch nothing."""
    contact = self._data.contact
    touches = [
      -contact.dist[i]
      for i, (first, second) in enumerate(contact.geom)
      if any(g[first] or g[second] for g in self._object_geoms.values())
    ]
    return max(touches, default=0.0)

  def observe(self) -> dict[str, np.ndarray]:
    """Returns a new observation, float32 vectors; see `observations.Layout`."""
    arm = self._qpos[:_ARM_DOFS]
    body = _joined((np.cos(arm), np.sin(arm), *self._body_parts))
    if not self._object_parts:
      return {observations.BODY: body}
    objects = _joined(self._object_parts)
    for i, pose in enumerate(self._object_qpos.values()):
      if pose[3] < 0:  # q and -q are the same orientation
        objects[13 * i + 3 : 13 * i + 7] *= -1
    return {observations.BODY: body, observations.OBJECTS: objects}


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
  # One call instead of an assignment for each part: every step of an actor pays for it.
  return np.concatenate(parts, dtype=np.float32, casting='same_kind')
