"""What the tests of the world share: its tasks, and a way to move things about."""

from collections.abc import Callable, Iterator

from absl.testing import absltest
import mujoco
import numpy as np
import pytest

from envs import stepping
from envs import tasks

Place = Callable[[stepping.ManipulationEnvironment, str, np.ndarray, np.ndarray], None]


def for_every_task(contract: type) -> dict[str, type]:
  """Returns a test case for each registered task, by name.

  Args:
    contract: what to test, with the task's name in `task`.
  """
  return {
    f'Test_{task}': type(f'Test_{task}', (contract, absltest.TestCase), {'task': task})
    for task in tasks.TASKS
  }


@pytest.fixture(scope='module', params=sorted(tasks.TASKS))
def env(request: pytest.FixtureRequest) -> Iterator[stepping.ManipulationEnvironment]:
  """Every registered task in turn."""
  environment = tasks.load(request.param, seed=3)
  yield environment
  environment.close()


@pytest.fixture(scope='module')
def lift() -> Iterator[stepping.ManipulationEnvironment]:
  environment = tasks.load('lift_brick', seed=3)
  environment.reset()
  yield environment
  environment.close()


@pytest.fixture(scope='session')
def place() -> Place:
  """A function that puts an object somewhere, at rest."""

  def do(
    env: stepping.ManipulationEnvironment,
    name: str,
    position: np.ndarray,
    orientation: np.ndarray,
  ) -> None:
    model, data = env.physics.model.ptr, env.physics.data.ptr
    free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    joint = free[env.layout.objects.index(name)]
    qpos, dof = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
    data.qpos[qpos : qpos + 7] = [*position, *orientation]
    data.qvel[dof : dof + 6] = 0
    mujoco.mj_forward(model, data)

  return do
