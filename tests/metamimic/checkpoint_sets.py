"""Small checkpoint sets of a run with one learner."""

import pathlib

from metamimic import checkpoints
from metamimic import drafts


def save(run_dir: pathlib.Path, steps: int) -> checkpoints.CheckpointSet:
  """Writes a set."""
  with drafts.turn(run_dir) as granted:
    assert granted
    draft = drafts.begin(run_dir)
  draft.add_learner('imitation', steps, lambda f: (f / 'state').write_text(f'{steps}'))
  draft.add(checkpoints.REPLAY, lambda f: (f / 'tables').write_text('abc'))
  return draft.complete({'imitation': 2 * steps}, lambda: 0.25, 0.125)


def names(run_dir: pathlib.Path) -> list[str]:
  """Returns what there is beside the lock and the host's name."""
  found = {path.name for path in (run_dir / checkpoints.FOLDER).iterdir()}
  return sorted(found - {'lock', 'host'})


def steps(found: checkpoints.CheckpointSet | None) -> int:
  """Returns how far the learner was."""
  assert found is not None
  return found.learner_steps['imitation']
