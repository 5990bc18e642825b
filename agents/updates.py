"""What updates of learners have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf


def many(
  update: Callable[[Any], Mapping[str, tf.Tensor]],
  names: Sequence[str],
  batches: Any,
  batch_size: int,
  number: tf.Tensor,
) -> dict[str, tf.Tensor]:
  """Does updates one after the other; for use within a tf.function.

  The loop is written out because autograph, which would make one of a `for`, takes
  seconds to convert all that the update calls. (Ours.)

  Args:
    update: a batch -> scalars by name.
    names: of those scalars.
    batches: nested tensors, (>= number * batch_size, ...).
    batch_size: rows of a batch.
    number: how many updates, an int32 scalar. With 0 nothing is done but tracing and
      compiling.

  Returns:
    The means of the scalars over the updates.
  """
  batches = tf.nest.map_structure(
    lambda t: tf.reshape(t, [-1, batch_size, *t.shape[1:]]), batches
  )

  def body(i: tf.Tensor, totals: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, dict]:
    metrics = update(tf.nest.map_structure(lambda t: t[i], batches))
    return i + 1, {name: totals[name] + metrics[name] for name in names}

  start = (tf.constant(0), dict.fromkeys(names, tf.constant(0.0)))
  _, totals = tf.while_loop(lambda i, _: i < number, body, start)
  return {name: total / tf.cast(number, tf.float32) for name, total in totals.items()}


def number(steps_per_call: int, most: int | None) -> tf.Tensor:
  """Returns how many updates to do in one call.

  Args:
    steps_per_call: of the settings.
    most: that are left to do; None: there is no end.
  """
  return tf.constant(steps_per_call if most is None else min(steps_per_call, most))


def mix(
  online: Sequence[tf.Variable], slow: Sequence[tf.Variable], rate: float | tf.Tensor
) -> None:
  """Moves variables towards others.

  Args:
    online: where to.
    slow: which are moved, in the same order.
    rate: by this share of what is between them.
  """
  for source, destination in zip(online, slow, strict=True):
    destination.assign(destination + rate * (source - destination))
