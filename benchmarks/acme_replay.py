"""Acme's n-step replay, made to work with Reverb 0.11, for the benchmarks."""

import time
from typing import Any

from acme import specs
from acme.adders import reverb as acme_adders
import reverb

TABLE = acme_adders.DEFAULT_PRIORITY_TABLE


class NStepTransitionAdder(acme_adders.NStepTransitionAdder):
  """Acme's own, but for an argument of the writer that Reverb 0.11 refuses."""

  # The attribute behind acme's property.
  _ReverbAdder__writer: Any

  @property
  def _writer(self) -> reverb.TrajectoryWriter:
    if self._ReverbAdder__writer is None:
      self._ReverbAdder__writer = self._client.trajectory_writer(
        num_keep_alive_refs=self._max_sequence_length
      )
      self._writer_created_timestamp = time.time()
    return self._ReverbAdder__writer


def signature(spec: specs.EnvironmentSpec) -> Any:
  """Returns what a table of an environment's transitions holds; can be pickled."""
  return NStepTransitionAdder.signature(spec)


def table(signature_: Any, max_size: int) -> reverb.Table:
  """Returns a table that never makes a writer wait.

  Args:
    signature_: see `signature`.
    max_size: transitions kept.
  """
  return reverb.Table(
    TABLE,
    sampler=reverb.selectors.Uniform(),
    remover=reverb.selectors.Fifo(),
    max_size=max_size,
    rate_limiter=reverb.rate_limiters.MinSize(1),
    signature=signature_,
  )


def unthrottled(table_: reverb.Table) -> reverb.Table:
  """Returns a like table that never makes a writer wait."""
  return table_.replace(rate_limiter=reverb.rate_limiters.MinSize(1))
