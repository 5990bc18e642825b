"""Every setting of a run, written once, with its meaning, unit and source.

`Config` is what a run is: it is saved as `config.json` in the run directory,
compared on resume, and every field can be overridden on the command line by its
dotted name (`--d4pg.n-step 5`). Sources: "paper" is stated on the abstract
page of Le Paine et al. 2018 (arXiv 1810.05017), "recalled" is from memory of that paper
and unchecked, "D4PG" is Barth-Maron et al. 2018, "ours" is a choice made here and
measured on two CPU cores.
"""

from collections.abc import Mapping
import dataclasses
import json
from typing import Any, Literal

from envs import disturbances
from envs import pictures
from metamimic import files
from metamimic import plain

IMITATION, TASK, CLONING = 'imitation', 'task', 'cloning'
"""Learners by name; the first two name a kind of actor and a policy, too."""


@dataclasses.dataclass(frozen=True)
class ImitationConfig:
  """What an imitation actor is rewarded for, where it starts, when it ends."""

  reward: str = ''
  """Reward as package.module:attribute; empty: the task's own in
  envs.reward_library. (Kernels on body and objects, time-aligned: recalled; terms,
  weights and temperatures: ours.)"""
  relative: bool = False
  """Whether the policy is also shown the desired pose of hand and objects relative to
  each other, and is rewarded for that (see RELATIVE and PIXELS_RELATIVE in
  envs.reward_library), not for where they are. From pictures a wrist camera shows it.
  (Ours, for objects that are not where the demonstration had them.)"""
  disturbance: disturbances.Disturbance = disturbances.NONE
  """What goes wrong in training episodes, at most; mass and friction stay 1. (Ours.)"""
  look_ahead: tuple[int, ...] = (1, 2, 5)
  """Demonstration frames the policy sees, in control steps ahead of now. (One next
  frame: recalled; the short look-ahead: ours.)"""
  start_within: float = 0.8
  """Probability that a training episode starts in a random state of the
  demonstration instead of its first. (Ours: on lifting without it .04 less reward after
  as many steps.)"""
  early_end: float = 0.1
  """An episode ends, with imitation discount 0, when any reward term falls below
  this value; 0: never. (Ours: on lifting without it .19 less reward after as many
  steps.)"""
  temperature_factor: float = 1.0
  """Factor on the calibrated temperatures of the reward that actors are given;
  evaluations keep to 1, so that runs compare. (Ours.)"""


@dataclasses.dataclass(frozen=True)
class PixelsConfig:
  """What policies see instead of where objects are; nothing tells them that then."""

  cameras: tuple[str, ...] = ()
  """Names in envs.pictures.CAMERAS; empty: there are no pictures, and observations have
  the objects' poses."""
  size: int = 64
  """Height and width of a picture, in pixels. (Ours: for 2 cores.)"""
  goal: Literal['pictures_and_body', 'pictures'] = 'pictures_and_body'
  """What policies are shown of a demonstration; with `pictures` they have to see where
  its arm is. (From vision: paper; pictures alone: recalled.)"""
  look_ahead: tuple[int, ...] = (2, 5)
  """Demonstration pictures that the policy sees, in control steps ahead. (Ours.)"""
  decoding_weight: float = 1.0
  """With the goal `pictures`: weight of a loss by which the encoder learns to tell from
  them how the body is to move, by the training demonstrations' bodies and by what the
  actors' came to; 0: none. Held-out demonstrations are pictures alone. (Ours.)"""
  tell_critic: bool = True
  """With the goal `pictures`, and an encoder that decodes: whether the critic, which
  only learning needs, is told how the body is to move, as the reward is, and not what
  the encoder makes of it. (Ours, after the asymmetric critic of Pinto et al. 2018.)"""
  shift: int = 4
  """Most pixels by which a learner shifts the pictures of a transition, at random, what
  is seen and what is to be seen alike; 0: none. (Kostrikov et al. 2020.)"""
  blind: bool = False
  """Whether the pictures are kept from the policies, to see what they are for; rewards
  are from them as ever."""
  frames: str = ''
  """Folder of the demonstrations' pictures, which are drawn once; empty: beside the
  file of demonstrations, its name followed by .frames."""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
  """Residual MLPs: the counterpart, for features, of the paper's large nets.

  (That larger ones are needed, with normalisation: paper.)
  """

  policy_width: int = 256
  """Units in each hidden layer of the policy. (Ours.)"""
  policy_blocks: int = 1
  """Residual blocks of the policy after its first layer. (Ours.)"""
  critic_width: int = 256
  """Units in each hidden layer of the critic. (Ours.)"""
  critic_blocks: int = 1
  """Residual blocks of the critic after its first layer. (Ours.)"""
  block_layers: int = 1
  """Linear layers within one residual block. (Ours.)"""
  normalise: bool = True
  """Layer normalisation after the first layer, in every residual block and of what is
  made of pictures, and instance normalisation in residual torsos. (Normalisation is
  needed: paper; where: ours.)"""
  torso: Literal['patches', 'residual'] = 'patches'
  """What makes numbers of pictures. `patches`: a few convolutions, common to policy and
  critic and taught by the critic's loss. (Ours, for processors.) `residual`: stages of
  residual blocks, a torso for each of the two. (Recalled.)"""
  filters: tuple[int, ...] = (32, 48, 64)
  """Of pictures: filters of each convolution; the first is of patches of 4 x 4 pixels,
  the others are 3 x 3 with stride 2. (Ours.) Of a residual torso: of each stage."""
  torso_blocks: int = 2
  """Residual blocks in a stage of a residual torso, of two convolutions each. (Ours;
  with four stages 20 convolutions, as is recalled of the paper.)"""
  embedding: int = 128
  """Numbers that the convolutions make of pictures. (Ours.)"""


@dataclasses.dataclass(frozen=True)
class D4PGConfig:
  """The off-policy learner (D4PG)."""

  discount: float = 0.9
  """Discount per control step of 0.04 s. (Ours: .9 for imitation, whose reward is
  dense, so that a second of horizon is enough; .99 for the task's.)"""
  n_step: int = 3
  """Control steps of reward summed before bootstrapping. (Ours: 3 for imitation, 10 for
  the task; D4PG uses 5.)"""
  num_atoms: int = 51
  """Atoms of the categorical critic. (D4PG.)"""
  v_min: float = 0.0
  """Lowest return an atom stands for. (Ours: rewards lie in [0, 1].)"""
  v_max: float = 10.0
  """Highest return an atom stands for: 1 / (1 - discount) where every step is rewarded,
  1 where success alone is. (Ours.)"""
  batch_size: int = 128
  """Transitions per learner step. (D4PG uses 256; 128 is better per CPU second.)"""
  policy_learning_rate: float = 5e-4
  """Adam step size of the policy. (Ours; D4PG uses 1e-4.)"""
  critic_learning_rate: float = 1e-3
  """Adam step size of the critic. (Ours; D4PG uses 1e-4.)"""
  encoder_learning_rate: float = 5e-4
  """Adam step size of what makes numbers of pictures, and learns from the loss of
  critic or value, and not of the policy. Residual torsos learn with policy and critic,
  at their step sizes. (Ours, after Yarats et al. 2021.)"""
  target_update_rate: float = 0.005
  """Share of the online weights mixed into the targets at each update; 1: a copy.
  (Ours; D4PG copies.)"""
  target_update_period: int = 1
  """Learner steps between target updates. (Ours; D4PG copies every 100.)"""
  gradient_clip: float = 0.0
  """Global norm to which each network's gradient is clipped, several critics counting
  as one; 0: no clipping. (Acme clips at 40.)"""
  action_gradient_clip: float = 0.0
  """Norm to which dQ/da is clipped per transition; 0: no clipping. (Acme clips at
  1.)"""
  target_noise: float = 0.0
  """Standard deviation of noise on the target policy's action, clipped at 2.5 of it; 0:
  none. (TD3 uses .2, Fujimoto et al. 2018; here it keeps the sparse reward's values
  from growing beyond what happens.)"""
  critics: int = 1
  """Critics that learn side by side; the lowest of their values counts, in the target
  and for the policy. (TD3 has 2 for the target, Fujimoto et al. 2018.) They have what
  makes numbers of pictures in common. (As in Yarats et al. 2021.)"""
  cloning_weight: float = 0.0
  """Weight of a second term of the policy's loss, which draws it to a replayed action
  where the critic prefers that one; the first is then divided by mean |Q|; 0: none.
  (Ours, after Nair et al. 2018, who do so with demonstrators' actions.)"""
  averaged_steps: int = 0
  """Learner steps over which the weights of the policy are averaged that is evaluated
  and loaded; actors act with the newest; 0: so do all. (Ours, after Polyak & Juditsky
  1992.)"""
  reset_at: float = 0.0
  """Share of the learner's steps after which, once, all that is learned begins anew,
  from the experience that there is by then; 0: never. (After Nikishin et al. 2022, who
  do it again and again: what was learned of early experience stands in the way of
  later.)"""
  steps_per_call: int = 10
  """Learner steps done by one call into the graph. Changes speed only. (Ours.)"""


@dataclasses.dataclass(frozen=True)
class BCConfig:
  """Behavioural cloning on the same demonstrations; this baseline sees actions."""

  batch_size: int = 128
  """Frames per learner step. (Ours.)"""
  learning_rate: float = 5e-4
  """Adam step size. (Ours.)"""
  steps_per_call: int = 10
  """Learner steps done by one call into the graph. Changes speed only. (Ours.)"""


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
  """Experience of one kind of actor, and the learner of its own reward."""

  max_size: int = 400_000
  """Transitions kept; the oldest leave first. (Ours.)"""
  min_size: int = 2_000
  """Transitions before the learner starts. (Ours.)"""
  samples_per_insert: float = 51.0
  """Transitions sampled for each one inserted; whoever is ahead waits. That is so many
  learner steps per environment step, times the batch. (Ours: .4 for imitation, .8 for
  the task.)"""


@dataclasses.dataclass(frozen=True)
class ActorConfig:
  """The processes that act."""

  num_actors: int = 1
  """Actor processes. (Ours: for 2 cores.)"""
  environments: int = 16
  """Environments in one actor process, served by one batched policy call. (Ours.)"""
  sigma: float = 0.05
  """Standard deviation of the exploration noise, of full scale 1. (Ours; D4PG uses
  0.3.)"""
  sigma_factors: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
  """One of these multiplies sigma, drawn anew for each episode. (Ours.)"""
  random_steps: int = 2_000
  """First environment steps of an actor during which half of the episodes act at
  random, at most until the learner has begun. (Ours.)"""
  update_period: float = 0.2
  """Seconds between publications of the policy's parameters by the learner, and between
  fetches by an actor. (Ours: older policies slow learning down.)"""


@dataclasses.dataclass(frozen=True)
class TaskConfig:
  """The policy that is shown nothing and learns from the task's reward."""

  reward: Literal['sparse', 'dense'] = 'sparse'
  """d4pg: which reward of the task. `sparse`: 1 once it is solved. `dense`: what
  dm_control gives at each step of an episode of 10 s. (Paper: sparse; dense: for
  comparison with what others have published.)"""
  learn: bool = False
  """Whether metamimic learns a task policy beside the imitation policy, from the
  experience of both kinds of actor and no action of a demonstrator."""
  learner: Literal['d4pg', 'self_imitation'] = 'd4pg'
  """metamimic: how the task policy learns. `self_imitation`: it does what turned out
  better than expected, in replay, and knows several ways to act. (Off-policy: paper;
  D4PG: recalled; the other: ours, after Oh et al. 2018; of `task.d4pg` it takes all but
  target_noise, action_gradient_clip, critics and cloning_weight.)"""
  components: int = 8
  """self_imitation: actions between which the policy chooses, each with a deviation and
  a probability. (Ours: of several ways to do a thing the mean is none.)"""
  learner_steps: int = 80_000
  """Learner steps of the task policy, whichever algorithm learns it. (Ours.)"""
  imitation_share: float = 0.75
  """metamimic: share of each batch that imitation actors wrote, the rest being the task
  actors'; 1: there are no task actors. The task learner then goes as fast as its
  machine lets it, whatever `task.replay.samples_per_insert`: actors write until the
  imitation learner is done, and they and the task learner do not wait for each other.
  (All in one memory: paper; a fixed share: ours.)"""
  demonstration_share: float = 0.25
  """d4pgfd: share of each batch from the demonstrations, with their actions. (Kept in
  replay for ever: Vecerik et al. 2017; a fixed share: ours.)"""
  start_after: int = 40_000
  """metamimic: transitions that imitation actors write before the task policy is begun
  with. (Ours: the very first ones teach nothing of the task.)"""
  start_within: float = 0.6
  """Probability that a task actor's episode starts in a random state of a training
  demonstration instead of the task's own start; not with d4pg, which is shown no
  demonstrations at all. (Ours.)"""
  patience: float = 1.5
  """A task actor's episode is cut off after this many times as long as a demonstration
  goes on from where it starts; 0, and with d4pg: at the task's time limit. (Ours: most
  of what comes later is far from anything that leads to success.)"""
  disturbance: disturbances.Disturbance = disturbances.NONE
  """What goes wrong in task actors' episodes, at most; mass and friction stay 1.
  (Ours.)"""
  turned: bool = True
  """Whether the policy and what judges it see arm and objects turned together about the
  arm's first joint, until that is at nought; with pictures nothing is turned. Actions
  do the same all around that joint, so that what is learned in one place holds in all.
  (Ours.)"""
  d4pg: D4PGConfig = D4PGConfig(
    discount=0.99,
    n_step=10,
    v_max=1.0,
    policy_learning_rate=3e-4,
    target_noise=0.2,
    critics=2,
    cloning_weight=1.0,
    averaged_steps=5_000,
    reset_at=0.5,
  )
  """The learner of the task policy. (Ours.)"""
  replay: ReplayConfig = ReplayConfig(samples_per_insert=102.0)
  """Of the task actors' experience; what a batch holds of other experience counts as
  sampled, too."""
  actor: ActorConfig = ActorConfig(sigma=0.1)
  """The task actors. (Ours.)"""

  @property
  def is_dense(self) -> bool:
    """Whether the reward is given at each step."""
    return self.reward == 'dense'


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """What is measured, and how often."""

  period: float = 45.0
  """Seconds between evaluations while training, at least; so many that they take a
  tenth of the time at most. (Ours.)"""
  episodes: int = 10
  """Demonstrations of each split in an evaluation while training."""
  final_episodes: int = 50
  """Demonstrations of each split in the final evaluation."""
  videos: int = 3
  """Held-out demonstrations drawn beside the policy's imitation at the end; 0: no
  video, and no GL library is needed."""


@dataclasses.dataclass(frozen=True)
class Config:
  """One run."""

  demonstrations: str = ''
  """HDF5 file of demonstrations (see `python -m metamimic.record --help`); the task
  is the one it names."""
  train_demonstrations: int = 0
  """Training demonstrations that the run has: the first of the file's, for all that
  learns, normalises, calibrates or measures; 0: all. (Ours.)"""
  without_skills: tuple[str, ...] = ()
  """Skills whose training demonstrations the run does not have; it is measured on the
  held-out ones apart, as `novel`."""
  algorithm: Literal['metamimic', 'bc', 'bc_no_goal', 'd4pg', 'd4pgfd'] = 'metamimic'
  """metamimic learns from its own experience and sees no actions; bc clones the
  demonstrators' actions, bc_no_goal without being shown what to do; d4pg learns the
  task from its reward alone, d4pgfd with demonstrations and their actions in replay.
  Those two have the settings under task, bc_no_goal task.turned."""
  seed: int = 0
  """Seed of networks, of the noise on target actions, of cloning's order, and of the
  episodes and exploration with which actors begin. Processes run freely, so two runs of
  one seed differ."""
  disturbed_share: float = 0.7
  """Share of the training episodes that meet each kind of disturbance, its strength
  drawn uniformly. (Ours.)"""
  learner_steps: int = 1_000_000
  """Learner steps of the policy that imitates or clones; the run evaluates, reports
  and ends when every learner has done its own."""
  checkpoint_period: float = 60.0
  """Seconds between two sets of checkpoints of learners and replay, at least; a large
  replay is saved more seldom, so that saving takes a fiftieth of the time at most."""
  stall_warning: float = 30.0
  """Seconds without progress of a learner after which the launcher says on what it
  waits."""
  gpu: bool = False
  """Whether learners work on the GPUs of their host; nobody else does, but for drawing.
  Wants the wheel tensorflow beside tensorflow-cpu (docs/running.md)."""
  imitation: ImitationConfig = ImitationConfig()
  pixels: PixelsConfig = PixelsConfig()
  network: NetworkConfig = NetworkConfig()
  d4pg: D4PGConfig = D4PGConfig()
  bc: BCConfig = BCConfig()
  replay: ReplayConfig = ReplayConfig()
  actor: ActorConfig = ActorConfig()
  task: TaskConfig = TaskConfig()
  evaluation: EvaluationConfig = EvaluationConfig()

  @property
  def learners(self) -> tuple[str, ...]:
    """The learners' names, by index."""
    if self.algorithm == 'metamimic':
      return (IMITATION, TASK) if self.task.learn else (IMITATION,)
    return (CLONING,) if self.algorithm in ('bc', 'bc_no_goal') else (TASK,)

  @property
  def actors(self) -> tuple[str, ...]:
    """What each actor acts for, by index: the name of a learner."""
    imitation = IMITATION in self.learners
    task = TASK in self.learners and self.borrowed < self.task.d4pg.batch_size
    return (
      *(IMITATION for _ in range(self.actor.num_actors * imitation)),
      *(TASK for _ in range(self.task.actor.num_actors * task)),
    )

  def acts_for(self, index: int) -> str:
    """Returns what the actor of an index acts for.

    A cluster may have more actors than `actors`; these take turns as those do.
    """
    return self.actors[index % len(self.actors)]

  @property
  def borrowed(self) -> int:
    """Transitions in each of the task's batches that task actors did not write."""
    shares = {
      'metamimic': self.task.imitation_share,
      'd4pgfd': self.task.demonstration_share,
    }
    return round(shares.get(self.algorithm, 0.0) * self.task.d4pg.batch_size)

  @property
  def pictures(self) -> pictures.Pictures | None:
    """The pictures that environments have; None: none."""
    size = self.pixels.size
    cameras = self.pixels.cameras
    return pictures.Pictures(cameras, size, size) if cameras else None

  @property
  def needs_frames(self) -> bool:
    """Whether rewards or policies see the pictures of demonstrations."""
    if self.pictures is None:
      return False
    return IMITATION in self.learners or (self.sees_actions and not self.pixels.blind)

  @property
  def sees_actions(self) -> bool:
    """Whether the algorithm learns from the demonstrators' actions."""
    return self.algorithm in ('bc', 'bc_no_goal', 'd4pgfd')

  def follows(self, learner: str) -> bool:
    """Returns whether a learner's policy is shown a demonstration to follow."""
    return learner == IMITATION or self.algorithm == 'bc'

  @property
  def shows(self) -> bool:
    """Whether there is a policy that is shown a demonstration to follow."""
    return any(map(self.follows, self.learners))

  @property
  def turned(self) -> bool:
    """Whether policies that are shown nothing see what is turned; see `TaskConfig`."""
    return self.task.turned and self.pictures is None

  def averages(self, learner: str) -> bool:
    """Returns whether a learner's policy is averaged before anybody uses it."""
    return learner != CLONING and self.d4pg_of(learner).averaged_steps > 0

  def components(self, learner: str) -> int:
    """Returns between how many actions a learner's policy chooses."""
    return self.task.components if self.imitates_itself(learner) else 1

  def imitates_itself(self, learner: str) -> bool:
    """Returns whether a learner is one of self-imitation."""
    return learner == TASK and self.task.learner == 'self_imitation'

  def d4pg_of(self, learner: str) -> D4PGConfig:
    """Returns the settings of a learner."""
    return self.task.d4pg if learner == TASK else self.d4pg

  def replay_of(self, actor: str) -> ReplayConfig:
    """Returns the settings of what a kind of actor writes."""
    return self.task.replay if actor == TASK else self.replay

  def actor_of(self, actor: str) -> ActorConfig:
    """Returns the settings of a kind of actor."""
    return self.task.actor if actor == TASK else self.actor

  def disturbance_of(self, actor: str) -> disturbances.Disturbance:
    """Returns what goes wrong, at most, in the episodes of a kind of actor."""
    return self.task.disturbance if actor == TASK else self.imitation.disturbance

  def last_step(self, learner: str) -> int:
    """Returns after how many steps a learner is done."""
    return self.task.learner_steps if learner == TASK else self.learner_steps

  def is_done(self, learner_steps: Mapping[str, int]) -> bool:
    """Returns whether each learner has done its last step.

    Args:
      learner_steps: by learner.

    Raises:
      KeyError: there are no steps of a learner.
      TypeError: they are no numbers.
    """
    return all(learner_steps[name] >= self.last_step(name) for name in self.learners)

  def reset_after(self, learner: str) -> int:
    """Returns after how many steps a learner begins anew, if it has not; 0: never."""
    return round(self.d4pg_of(learner).reset_at * self.last_step(learner))

  def arm(self, learner: str) -> str:
    """Returns the name that a learner's policy has in evaluations."""
    beside = self.algorithm == 'metamimic' and learner == TASK
    return 'task_policy' if beside else self.algorithm


def to_dict(config: Config) -> dict[str, Any]:
  """Returns `config` as nested dicts of plain JSON values."""
  return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(values: Mapping[str, Any]) -> Config:
  """Inverse of `to_dict`.

  Raises:
    ValueError: a field is unknown, missing or of another type; the message names it.
  """
  return plain.build(Config, values, 'config')


def save(config: Config, path: str) -> None:
  """Writes `config` as JSON, to a temporary name first."""
  files.write_json(path, to_dict(config))


def load(path: str) -> Config:
  """Reads what `save` wrote.

  Raises:
    OSError: there is no such file, or it cannot be read.
    ValueError: the file is no JSON or has other fields; the message names it.
  """
  values = files.read_json(path)
  try:
    return from_dict(values)
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from e


def differences(old: Config, new: Config) -> list[str]:
  """Returns one line for each setting that differs: `name: old -> new`."""
  a, b = plain.flatten(to_dict(old)), plain.flatten(to_dict(new))
  return [f'{name}: {a[name]} -> {b[name]}' for name in a if a[name] != b[name]]
