"""dm_control, but for two messages that mean nothing here; import it from here.

* Importing it on a machine without a display warns of that, although it is not going
  to open a window.
* A reset that draws a start which the arm cannot reach says so, and draws another.
"""

import logging
import warnings

from absl import logging as absl_logging

with warnings.catch_warnings():
  # 65550 is GLFW_PLATFORM_UNAVAILABLE: there is no display to be found.
  warnings.filterwarnings('ignore', message=r'\(65550\)', module='glfw')
  from dm_control import composer
  from dm_control import manipulation
  from dm_control import mjcf
  from dm_control.mujoco import engine

__all__ = ['composer', 'engine', 'manipulation', 'mjcf']


def _has_meaning(record: logging.LogRecord) -> bool:
  return record.module != 'inverse_kinematics' or not str(record.msg).startswith(
    'Failed to converge after'
  )


absl_logging.get_absl_logger().addFilter(_has_meaning)
