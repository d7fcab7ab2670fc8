"""The Stable-Baselines3 side of peers.py: PPO on CartPole; it runs in an environment of its own, without jax."""

import peer
import peer_torch
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv


def main():
    options = peer.arguments("envs", "updates")
    env = make_vec_env(peer.ENV, n_envs=options.envs, seed=0, vec_env_cls=DummyVecEnv)
    rows = options.envs * peer.NUM_STEPS

    def train(number):
        model = PPO(
            "MlpPolicy",
            env,
            learning_rate=peer.LEARNING_RATE,
            n_steps=peer.NUM_STEPS,
            batch_size=rows // peer.NUM_MINIBATCHES,
            n_epochs=peer.NUM_EPOCHS,
            gamma=peer.DISCOUNT,
            gae_lambda=peer.GAE_LAMBDA,
            clip_range=peer.CLIP_EPS,
            clip_range_vf=peer.CLIP_EPS,
            ent_coef=peer.ENTROPY_COEF,
            vf_coef=peer.VALUE_COEF,
            max_grad_norm=peer.MAX_GRAD_NORM,
            policy_kwargs={
                "net_arch": {"pi": list(peer.HIDDEN), "vf": list(peer.HIDDEN)},
                "activation_fn": torch.nn.Tanh,
                "optimizer_kwargs": {"eps": peer.ADAM_EPS},
            },
            seed=number,
            device="cpu",
        )
        model.learn(options.updates * rows)
        descended = max(int(state["step"]) for state in model.policy.optimizer.state.values())
        return {"env_steps": model.num_timesteps, "gradient_steps": descended}

    packages = ("stable-baselines3", "torch", "gymnasium", "numpy")
    peer.serve({"train": train}, packages, peer_torch.settle([train]), {}, warm=False)


if __name__ == "__main__":
    main()
