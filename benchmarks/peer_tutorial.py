"""The tutorial's side of peers.py: REINFORCE in PyTorch and Gymnasium, one episode after another in a Python loop.

It runs in an environment of its own, without jax. The loop is what one finds in tutorials: sample, step, remember the
log-probability and the reward; at the end of the episode returns-to-go, normalised, one loss, one step of Adam.
PyTorch has as many threads as it is fastest with.
"""

import gymnasium
import peer
import peer_torch
import torch
from torch import nn
from torch.distributions import Categorical


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        first, second = peer.HIDDEN
        self.net = nn.Sequential(
            nn.Linear(4, first), nn.Tanh(), nn.Linear(first, second), nn.Tanh(), nn.Linear(second, 2)
        )

    def forward(self, x):
        return self.net(x)


def uniform(policy):
    for x in policy.net[4].parameters():
        nn.init.zeros_(x)


def balancing(policy):
    """One unit of each layer carries the sign of BALANCING @ obs."""
    for x in policy.parameters():
        nn.init.zeros_(x)
    with torch.no_grad():
        policy.net[0].weight[0] = peer.SHARPNESS * torch.tensor(peer.BALANCING)
        policy.net[2].weight[0, 0] = peer.SHARPNESS
        policy.net[4].weight[:, 0] = peer.SHARPNESS * torch.tensor([-1.0, 1.0])


def reinforce(env, policy, optimizer, steps, seed):
    """Episodes until `steps` environment steps were made; (episodes, steps)."""
    episodes, made = 0, 0
    while made < steps:
        obs, _ = env.reset(seed=seed if episodes == 0 else None)
        log_probs, rewards, done = [], [], False
        while not done:
            dist = Categorical(logits=policy(torch.as_tensor(obs)))
            action = dist.sample()
            obs, reward, terminated, truncated, _ = env.step(action.item())
            log_probs.append(dist.log_prob(action))
            rewards.append(reward)
            done = terminated or truncated

        returns, total = [], 0.0
        for reward in reversed(rewards):
            total = reward + peer.DISCOUNT * total
            returns.append(total)
        returns = torch.tensor(returns[::-1])
        returns = (returns - returns.mean()) / (returns.std() + 1e-8)
        loss = -(torch.stack(log_probs) * returns).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        episodes, made = episodes + 1, made + len(rewards)
    return episodes, made


def main():
    options = peer.arguments("steps")
    env = gymnasium.make(peer.ENV)

    def playing(weights):
        def program(number):
            torch.manual_seed(number)
            policy = Policy()
            weights(policy)
            optimizer = torch.optim.Adam(policy.parameters(), lr=peer.FROZEN_LEARNING_RATE)
            episodes, steps = reinforce(env, policy, optimizer, options.steps, number)
            return {"episodes": episodes, "env_steps": steps}

        return program

    programs = {"uniform": playing(uniform), "balancing": playing(balancing)}
    device = peer_torch.settle(programs.values())
    peer.serve(programs, ("torch", "gymnasium", "numpy"), device, {}, warm=False)


if __name__ == "__main__":
    main()
