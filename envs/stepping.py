"""A dm_control.manipulation task without composer's per-substep overhead.

Composer calls its hooks, and updates every observable, 20 times a control step. The
Jaco tasks have no hook there, so one call into MuJoCo makes the whole control step,
bit for bit the same. A reset does not compile the model again: all that these tasks
change in it between episodes is where they draw a hint of the goal.
"""

from collections.abc import Mapping
import dataclasses

import dm_env
from dm_env import specs
import mujoco
import numpy as np

from envs import observations
from envs import pictures as pictures_lib
from envs import rendering
from envs import scene as scene_lib
from envs import simulator
from envs import success

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
ACTION_SPEC = specs.BoundedArray((9,), np.float32, -1.0, 1.0, name='joint_velocities')
"""Velocities of the arm's six joints and the three fingers, of full scale 1."""
REWARD_SPEC = specs.BoundedArray((), np.float32, 0.0, 1.0, name='reward')
DENSE_STEPS = 250
"""Control steps of an episode of dm_control's own, which lasts 10 s."""
DISCOUNT_SPEC = specs.BoundedArray((), np.float32, 0.0, 1.0, name='discount')

# What only composer would call.
_TASK_HOOKS = ('before_substep', 'after_substep', 'after_step')
_ENTITY_HOOKS = (*_TASK_HOOKS, 'before_step', 'initialize_episode')


@dataclasses.dataclass(frozen=True)
class Task:
  """What `tasks.load` needs to know of a task."""

  name: str
  environment: str
  """Name in dm_control.manipulation."""
  objects: tuple[str, ...]
  """Names of its free bodies, in the model's order."""
  skills: Mapping[str, success.Success]
  """What can be pursued in it, by name: when it is done."""
  max_steps: int
  """Control steps of 0.04 s after which an episode is cut off."""
  hold_steps: int = 5
  """Consecutive control steps in a success state that make a success."""

  @property
  def layout(self) -> observations.Layout:
    """What is observed of it, but for pictures."""
    return observations.Layout(self.objects)

  def success_of(self, skill: str) -> success.Success:
    """Returns when a skill is done.

    Raises:
      ValueError: the task has no such skill; the message lists those it has.
    """
    try:
      return self.skills[skill]
    except KeyError:
      raise ValueError(
        f'{self.name} has no skill {skill!r}; there are {list(self.skills)}'
      ) from None


class ManipulationEnvironment(dm_env.Environment):
  """One Jaco task with grouped observations and a sparse reward.

  An episode ends with reward 1 and discount 0 once the skill pursued has succeeded, and
  with discount 1 at the time limit. Unless told otherwise, the task's first is pursued.
  """

  def __init__(
    self,
    task: Task,
    seed: int,
    like: 'ManipulationEnvironment | None' = None,
    pictures: pictures_lib.Pictures | None = None,
  ):
    """Loads and compiles the task.

    Args:
      task: what to load.
      seed: of the random starts.
      like: if given, another environment of the task, whose compiled model serves this
        one, too. That saves most of the time of loading, and models share the
        processor's caches.
      pictures: to observe beside the features; None: none.

    Raises:
      RuntimeError: the dm_control task has hooks that only composer calls, so that it
        cannot be stepped without it; or there are to be pictures, and this machine
        cannot render.
    """
    self.task = task
    if like is None:
      self._composer: simulator.composer.Environment = simulator.manipulation.load(
        task.environment, seed
      )
      self._composer.reset()
      _refuse_hooks(task.environment, self._composer.task)
      # Not the proxy that composer hands out: this object lives as long as we do.
      self.physics = self._composer._physics
    else:
      self._composer = like._composer
      self.physics = like.physics.copy(share_model=True)
    composer_task = self._composer.task
    self._random_state = np.random.RandomState(seed)
    self._model, self._data = self.physics.model.ptr, self.physics.data.ptr
    self._substeps = composer_task.physics_steps_per_control_step
    self.layout = observations.Layout(task.objects, pictures)
    self.scene = scene_lib.Scene(composer_task, self.physics, self.layout)
    self._limits = self.scene.velocity_limits
    self._control = self._data.ctrl
    self._warnings = self._data.warning.number
    self._state_size = mujoco.mj_stateSize(self._model, _STATE)
    self._renderers = {}
    if pictures is not None:
      for name in pictures.cameras:
        self._renderers[pictures_lib.group(name)] = rendering.Renderer(
          self, pictures.size, name, coarse=True
        )
    self._held_steps = self._num_steps = 0
    self.pursue(next(iter(task.skills)))
    self.begin()
    self._reset_next_step = True

  def pursue(self, skill: str) -> None:
    """Chooses what counts as success in episodes that begin from here on.

    Args:
      skill: a name in the task's `skills`.

    Raises:
      ValueError: there is no such skill; the message lists those there are.
    """
    self._success = self.task.success_of(skill)

  def reset(self, seed: int | None = None) -> dm_env.TimeStep:
    """Starts an episode from the task's own distribution of starts.

    Args:
      seed: if given, starts from here on are those of this seed.

    Returns:
      The first timestep.
    """
    if seed is not None:
      self._random_state = np.random.RandomState(seed)
    with self.physics.reset_context():
      self._composer.task.initialize_episode(self.physics, self._random_state)
    self.begin()
    return observations.restart(self.observe())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Advances one control step of 0.04 s.

    Args:
      action: joint velocities, (9,), of full scale 1; values beyond are clipped.

    Returns:
      The timestep, its reward and discount float32.
    """
    if self._reset_next_step:
      return self.reset()
    observation = self.advance(action)
    reward, discount, end = np.float32(0), np.float32(1), False
    if self.succeeded:
      reward, discount, end = np.float32(1), np.float32(0), True
    elif self._num_steps >= self.task.max_steps:
      end = True
    self._reset_next_step = end
    step_type = dm_env.StepType.LAST if end else dm_env.StepType.MID
    return dm_env.TimeStep(step_type, reward, discount, observation)

  def advance(self, action: np.ndarray) -> dict[str, np.ndarray]:
    """Advances one control step, without reward, end of episode or reset.

    Args:
      action: as for `step`.

    Returns:
      The observation.

    Raises:
      RuntimeError: the simulation has diverged.
      ValueError: the action has another shape.
    """
    # Not np.clip, which takes ten times as long for nine numbers.
    action = np.minimum(np.maximum(action, -1), 1)
    if action.shape != ACTION_SPEC.shape:
      raise ValueError(f'action has shape {action.shape}; expected {ACTION_SPEC.shape}')
    np.multiply(action, self._limits, out=self._control)
    # Velocity and position dependent fields are kept up to date between steps, as
    # composer does: finish the step that the last mj_step1 began.
    mujoco.mj_step2(self._model, self._data)
    mujoco.mj_step(self._model, self._data, self._substeps - 1)
    mujoco.mj_step1(self._model, self._data)
    if np.count_nonzero(self._warnings):
      raise RuntimeError(
        f'{self.task.name}: the simulation diverged (MuJoCo warnings '
        f'{self._warnings.tolist()}) at action {np.asarray(action).tolist()}'
      )
    self._num_steps += 1
    self._held_steps = self._held_steps + 1 if self._is_success() else 0
    return self.observe()

  def observe(self) -> dict[str, np.ndarray]:
    """Returns a new observation of the present state."""
    observation = self.scene.observe()
    for group, renderer in self._renderers.items():
      observation[group] = renderer.render()
    return observation

  @property
  def mjcf_root(self) -> simulator.mjcf.RootElement:
    """What the physics was compiled from."""
    return self._composer.task.root_entity.mjcf_model

  @property
  def hand_site(self) -> str:
    """Name of the site between the fingertips, in `mjcf_root`."""
    return self._composer.task.hand.tool_center_point.full_identifier

  @property
  def succeeded(self) -> bool:
    """Whether the scene has been in a success state for `hold_steps` steps."""
    return self._held_steps >= self.task.hold_steps

  @property
  def dense_reward(self) -> float:
    """dm_control's own reward of the present state, in [0, 1]."""
    return float(self._composer.task.get_reward(self.physics))

  def get_state(self) -> np.ndarray:
    """Returns the whole physics state, warm start included, float64, (S,)."""
    state = np.empty(self._state_size)
    mujoco.mj_getState(self._model, self._data, state, _STATE)
    return state

  def set_state(self, state: np.ndarray) -> dict[str, np.ndarray]:
    """Goes to a state of `get_state`; the same actions then give the same rollout.

    An episode begins there.

    Args:
      state: float64, (S,).

    Returns:
      The observation there.

    Raises:
      ValueError: the state has another size than this task's.
    """
    if state.shape != (self._state_size,):
      raise ValueError(
        f'{self.task.name}: state has shape {state.shape}; expected '
        f'{(self._state_size,)}'
      )
    mujoco.mj_resetData(self._model, self._data)
    mujoco.mj_setState(self._model, self._data, state, _STATE)
    mujoco.mj_forward(self._model, self._data)
    self.begin()
    return self.observe()

  def begin(self) -> None:
    """Begins an episode in the present state, as `reset` and `set_state` do.

    Steps and success are counted, and where things were is remembered, from here on.
    """
    self._is_success = self._success(self.scene)
    self._held_steps = self._num_steps = 0
    self._reset_next_step = False
    self._warnings[:] = 0

  def observation_spec(self) -> dict[str, specs.Array]:
    """Returns float32 vectors by group, and uint8 pictures if there are any."""
    return self.layout.spec()

  def action_spec(self) -> specs.BoundedArray:
    """Returns nine joint velocities, six of the arm, three of the fingers."""
    return ACTION_SPEC

  def reward_spec(self) -> specs.Array:
    """Returns a float32 scalar."""
    return REWARD_SPEC

  def discount_spec(self) -> specs.BoundedArray:
    """Returns a float32 scalar in [0, 1]."""
    return DISCOUNT_SPEC

  def close(self) -> None:
    """Frees the physics."""
    self.physics.free()


def _refuse_hooks(name: str, task: simulator.composer.Task) -> None:
  for owner, base, hooks in (
    (task, simulator.composer.Task, _TASK_HOOKS),
    *(
      (entity, simulator.composer.Entity, _ENTITY_HOOKS)
      for entity in task.root_entity.iter_entities()
    ),
  ):
    for hook in hooks:
      if getattr(type(owner), hook) is not getattr(base, hook):
        raise RuntimeError(f'{name}: {type(owner).__name__} has a hook {hook}')
