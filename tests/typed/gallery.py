"""Each method of the gallery has the type of its plug."""

from collections.abc import Callable
from typing import Any

import optax

from experiments.methods.batch_norm import batch_norm
from experiments.methods.dae import dae
from experiments.methods.decoupled_ppo import decoupled_ppo
from experiments.methods.dropout import dropout
from experiments.methods.dual_clip import dual_clip
from experiments.methods.entropy_target import entropy_target
from experiments.methods.gmpo import gmpo
from experiments.methods.mdpo import mdpo
from experiments.methods.mdpo_annealed import mdpo_annealed
from experiments.methods.mdpo_sampled import mdpo_sampled
from experiments.methods.mean_actor_critic import mean_actor_critic
from experiments.methods.muon import muon
from experiments.methods.neurd import neurd
from experiments.methods.optimal_baseline import optimal_baseline
from experiments.methods.p3o import p3o
from experiments.methods.pass_at_k import pass_at_k
from experiments.methods.pcgrad import pcgrad
from experiments.methods.percentile_scale import percentile_scale
from experiments.methods.plateau import plateau
from experiments.methods.pmpo import pmpo
from experiments.methods.polyak import polyak
from experiments.methods.popart import popart
from experiments.methods.ppo_ewma import ppo_ewma
from experiments.methods.ppo_lagrangian import ppo_lagrangian
from experiments.methods.ppo_rb import ppo_rb
from experiments.methods.retrace import retrace
from experiments.methods.rnd import rnd
from experiments.methods.sam import sam
from experiments.methods.sapo import sapo
from experiments.methods.schedule_free import schedule_free
from experiments.methods.self_imitation import self_imitation
from experiments.methods.symlog import symlog
from experiments.methods.topr import topr
from experiments.methods.truly_ppo import truly_ppo
from experiments.methods.upgo import upgo
from experiments.methods.vineppo import vineppo
from pgjax import Config, Env, Policy
from pgjax.algorithms.roster import Entry
from pgjax.optimizers import Finishing
from pgjax.types import AdvantageFn, EstimatorFn, LossFn, Running

losses: list[LossFn] = [
    dual_clip,
    ppo_rb,
    truly_ppo,
    mdpo,
    mdpo_sampled,
    pmpo,
    p3o,
    gmpo,
    sapo,
    topr,
    decoupled_ppo,
]
advantages: list[AdvantageFn] = [
    pass_at_k,
    upgo,
]
estimators: list[EstimatorFn] = [
    sam,
    pcgrad,
]
optimizers: list[Callable[..., optax.GradientTransformation]] = [
    muon,
    plateau,
]
finishing: list[Callable[..., Finishing]] = [
    polyak,
    schedule_free,
]
policies: list[Callable[[Env, Config], Policy]] = [
    dropout,
    batch_norm,
]
algorithms: list[Entry] = [
    symlog,
    dae,
    retrace,
    mean_actor_critic,
    neurd,
    popart,
]
playing: list[Callable[..., Any]] = [
    vineppo,
]
running: list[Running] = [
    entropy_target,
    mdpo_annealed,
    optimal_baseline,
    percentile_scale,
    rnd,
    ppo_lagrangian,
    ppo_ewma,
    self_imitation,
]
