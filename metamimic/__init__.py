"""MetaMimic: one-shot high-fidelity imitation by off-policy reinforcement learning.

demonstrations = storage.load(FILE).demonstrations  # metamimic.demonstrations.storage
imitator = metamimic.load('runs/lift_brick')
follow = imitator.watch(demonstrations[-1])
action = follow(observation, step)

solver = metamimic.load_task('runs/both')
action = solver(observation)
"""

import sys
from typing import Any

# Acme imports gym, which would head the output of every process with a notice that it
# is unmaintained, unless its table of notices is missing.
sys.modules.setdefault('gym_notices.notices', None)  # type: ignore[arg-type]


def load(run_dir: str) -> Any:
  """Returns the `metamimic.loading.Imitator` of a run directory.

  Args:
    run_dir: a run directory, finished or not.

  Raises:
    FileNotFoundError: it is no run directory, or has no checkpoint yet.
    ValueError: no checkpoint is good, or the run learns no policy that can be
      shown a demonstration.
  """
  # Here, so that recording and inspecting do not wait for TensorFlow.
  from metamimic import loading

  return loading.load(run_dir)


def load_task(run_dir: str) -> Any:
  """Returns the `metamimic.loading.Solver` of a run directory.

  Args:
    run_dir: a run directory, finished or not.

  Raises:
    FileNotFoundError: it is no run directory, or has no checkpoint yet.
    ValueError: no checkpoint is good, or the run learns no policy that does
      without a demonstration.
  """
  from metamimic import loading

  return loading.load_task(run_dir)
