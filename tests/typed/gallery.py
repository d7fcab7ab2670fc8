"""Each method of the gallery has the type of its plug."""

from collections.abc import Callable

import optax

from experiments.methods.awr import awr
from experiments.methods.beta_policy import beta_policy
from experiments.methods.cispo import cispo
from experiments.methods.clip_higher import clip_higher
from experiments.methods.dae import dae
from experiments.methods.dapo import dapo
from experiments.methods.dr_grpo import dr_grpo
from experiments.methods.dual_clip import dual_clip
from experiments.methods.gmpo import gmpo
from experiments.methods.gspo import gspo
from experiments.methods.hl_gauss import hl_gauss
from experiments.methods.mdpo import mdpo
from experiments.methods.mdpo_sampled import mdpo_sampled
from experiments.methods.mean_actor_critic import mean_actor_critic
from experiments.methods.mixture_policy import mixture_policy
from experiments.methods.muon import muon
from experiments.methods.neurd import neurd
from experiments.methods.opo import opo
from experiments.methods.p3o import p3o
from experiments.methods.pass_at_k import pass_at_k
from experiments.methods.pcgrad import pcgrad
from experiments.methods.pmpo import pmpo
from experiments.methods.ppo_rb import ppo_rb
from experiments.methods.pqn import pqn
from experiments.methods.reinforce_pp import reinforce_pp
from experiments.methods.retrace import retrace
from experiments.methods.sam import sam
from experiments.methods.sapo import sapo
from experiments.methods.self_imitation import self_imitation
from experiments.methods.spo import spo
from experiments.methods.symlog import symlog
from experiments.methods.topr import topr
from experiments.methods.truly_ppo import truly_ppo
from experiments.methods.upgo import upgo
from pgjax import Config, Env, Policy
from pgjax.algorithms.roster import Entry
from pgjax.types import AdvantageFn, EstimatorFn, LossFn

losses: list[LossFn] = [
    dual_clip,
    ppo_rb,
    truly_ppo,
    clip_higher,
    spo,
    awr,
    mdpo,
    mdpo_sampled,
    pmpo,
    p3o,
    self_imitation,
    cispo,
    gspo,
    gmpo,
    sapo,
    topr,
]
advantages: list[AdvantageFn] = [
    opo,
    pass_at_k,
    upgo,
]
estimators: list[EstimatorFn] = [
    sam,
    pcgrad,
]
optimizers: list[Callable[..., optax.GradientTransformation]] = [
    muon,
]
policies: list[Callable[[Env, Config], Policy]] = [
    beta_policy,
    mixture_policy,
]
algorithms: list[Entry] = [
    hl_gauss,
    symlog,
    dae,
    pqn,
    retrace,
    mean_actor_critic,
    neurd,
    dr_grpo,
    reinforce_pp,
    dapo,
]
