#!/usr/bin/python3
"""Steps a second of training a policy: ss-train-policy beside PyTorch, in turns.

    policy.py BINDIR [--rounds=3] [--steps=60000] [--torch-steps=8192]

PyTorch runs the same networks, sizes and hyperparameters (16 copies, horizon 128, minibatch 256, 4 epochs, Adam, clip
0.2, GAE), written as one writes it there, with one thread. It is measured with an environment in Python that
plays windows, queue, contention and energy along a trace as ours does (without holding, tails and sampling); with
none, a table of random numbers in its place; and once more at what libraries of reinforcement learning do unless told
otherwise: one environment, 2048 steps between updates, minibatches of 64, 10 epochs. Ours is the whole of ss-train-policy's. A step is a decision; rates are by
the processor time of the process, so that other load on the machine counts less.
"""
import argparse
import bisect
import math
import os
import random
import statistics
import resource
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
INPUTS, ACTIONS, HIDDEN, COPIES, HORIZON, MINIBATCH, EPOCHS = 16, 9, 64, 16, 128, 256, 4


def ours(bindir, steps):
    profile = os.path.join(HERE, '..', 'golden', 'profile-example.json')
    with tempfile.TemporaryDirectory() as d:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([os.path.join(bindir, 'ss-train-policy'), '--profile=' + profile, '--traces=lte,wifi', '--made=5',
                            f'--steps={steps}', '--no-report', '-o', os.path.join(d, 'p.json')], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = math.ceil(steps / (COPIES * HORIZON)) * COPIES * HORIZON
    return done / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


class Trace:
    """A second a row: bits and work that can have passed, and when so many have."""

    def __init__(self, seed):
        r = random.Random(seed)
        self.bandwidth = [0 if r.random() < 0.05 else r.lognormvariate(15, 0.6) for _ in range(300)]
        self.cpu = [r.choice((0.03, 0.25, 0.5, 0.75, 0.93)) for _ in range(300)]
        self.rtt = [r.lognormvariate(4, 0.25) for _ in range(300)]
        self.bits, self.work = [0.0], [0.0]
        for b, c in zip(self.bandwidth, self.cpu):
            self.bits.append(self.bits[-1] + b)
            self.work.append(self.work[-1] + 1 - c)

    @staticmethod
    def sum(v, at):
        turns, rest = divmod(at, 300)
        i = int(rest)
        return turns * v[-1] + v[i] + (rest - i) * (v[i + 1] - v[i])

    @staticmethod
    def when(v, wanted):
        turns, rest = divmod(wanted, v[-1])
        i = max(bisect.bisect_left(v, rest) - 1, 0)
        width = v[i + 1] - v[i]
        return turns * 300 + i + ((rest - v[i]) / width if width > 0 else 0)


class Env:
    """What one device does on a trace: the same reckoning as lib/split/env.c."""

    CHOICES = [(0.3, 9, 24690, 0.83), (0.5, 9, 6250, 0.83),
               (34, 7, 1450, 0.825), (53, 5, 760, 0.82), (53, 5, 310, 0.8), (69, 3, 430, 0.82), (82, 0, 640, 0.81),
               (82, 0, 190, 0.809), (82, 0, 190, 0.809)]

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.traces = [Trace(i) for i in range(8)]
        self.reset()

    def reset(self):
        self.t, self.start = self.rng.choice(self.traces), self.rng.randrange(300)
        self.window, self.device, self.link, self.action, self.age = 0, 0.0, -1.0, 0, 0.0
        self.seen = self.then = [0.0] * INPUTS
        self.look()

    def look(self):
        t, now = self.t, self.start + self.window * 0.48
        i = int(now % 300)
        earlier = max(now - 2, 0)
        bandwidth = (t.sum(t.bits, now) - t.sum(t.bits, earlier)) / max(now - earlier, 1e-9)
        queue = max(t.sum(t.bits, self.start + self.link) - t.sum(t.bits, now), 0) / 8 if self.link > now - self.start else 0
        b = min(math.log2(bandwidth / 8e3) / 12, 1) if bandwidth > 8e3 else 0
        q = min(math.log2(1 + queue / 256) / 14, 1)
        cpu = min(max(t.cpu[i] + self.rng.gauss(0, 0.02), 0), 1)
        drain = min(math.log2(1 + 80 * queue / max(bandwidth, 8e3)) / 12, 1)
        device, _, size, _ = self.CHOICES[self.action]
        self.seen = [self.rng.random(), cpu, cpu - self.then[1], b, b - self.then[3], self.age, math.log2(1 + t.rtt[i] / 10) / 6, q,
                     q - self.then[7], drain, 0, 0, 0, device / 480, math.log2(1 + size / 64) / 12, 0]

    def step(self, action):
        self.action, self.then, total = action, self.seen, 0.0
        device, server, size, quality = self.CHOICES[action]
        for _ in range(10):
            t, ready = self.t, self.window * 0.48
            begun = max(ready, self.device)
            at = t.when(t.work, t.sum(t.work, self.start + begun) + device * self.rng.uniform(0.9, 1.2) / 1e3) - self.start
            self.device = at
            joules = device / 1e3 * 4.5344 / 4
            begun = max(at, self.link)
            self.link = t.when(t.bits, t.sum(t.bits, self.start + begun) + 8 * size) - self.start
            joules += (self.link - begun) * 0.064 + 8e-6 * size * 0.004813
            if server:
                at = self.link + t.rtt[int((self.start + self.link) % 300)] / 2e3 + server / 1e3
            late = at - ready > 2
            total += 10 * (0 if late else quality) - 5 * min(at - ready, 2) / 0.2 - 30 * joules
            self.window += 1
            self.look()
            if any(abs(self.seen[k] - self.then[k]) >= 0.25 for k in (1, 3, 7)):
                break
        return total / 10, self.window >= 200


def theirs(steps, played=True, copies=COPIES, horizon=HORIZON, minibatch=MINIBATCH, epochs=EPOCHS):
    import torch
    from torch import nn
    torch.set_num_threads(1)
    torch.manual_seed(1)

    def net(out):
        return nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, out))

    actor, critic = net(ACTIONS), net(1)
    weights = [*actor.parameters(), *critic.parameters()]
    optimiser = torch.optim.Adam(weights, lr=3e-4)
    seen = torch.rand(2049, copies, INPUTS)
    came = torch.randn(2049, copies)
    envs = [Env(i) for i in range(copies)]
    done, began = 0, time.process_time()
    while done < steps:
        x, a, logp, value, reward = [], [], [], [], []
        for t in range(horizon):
            now = torch.tensor([e.seen for e in envs]) if played else seen[t]
            with torch.no_grad():
                law = torch.distributions.Categorical(logits=actor(now))
                action = law.sample()
                logp.append(law.log_prob(action))
                value.append(critic(now).squeeze(-1))
            x.append(now)
            a.append(action)
            if played:
                r = []
                for e, k in zip(envs, action.tolist()):
                    got, over = e.step(k)
                    r.append(got)
                    if over:
                        e.reset()
                came[t] = torch.tensor(r)
            reward.append(came[t])
        with torch.no_grad():
            after = critic(torch.tensor([e.seen for e in envs]) if played else seen[horizon]).squeeze(-1)
            advantage, last = torch.zeros(horizon, copies), torch.zeros(copies)
            for t in reversed(range(horizon)):
                delta = reward[t] + 0.99 * after - value[t]
                last = delta + 0.99 * 0.95 * last
                advantage[t], after = last, value[t]
        x, a, logp = torch.stack(x).flatten(0, 1), torch.stack(a).flatten(), torch.stack(logp).flatten()
        target = (advantage + torch.stack(value)).flatten()
        advantage = advantage.flatten()
        for _ in range(epochs):
            for i in torch.randperm(horizon * copies).split(minibatch):
                law = torch.distributions.Categorical(logits=actor(x[i]))
                ratio = (law.log_prob(a[i]) - logp[i]).exp()
                ad = advantage[i]
                ad = (ad - ad.mean()) / (ad.std() + 1e-8)
                policy = -torch.min(ratio * ad, ratio.clamp(0.8, 1.2) * ad).mean()
                loss = policy - 0.01 * law.entropy().mean() + 0.25 * (critic(x[i]).squeeze(-1) - target[i]).pow(2).mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(weights, 0.5)
                optimiser.step()
        done += horizon * copies
    return done / (time.process_time() - began)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('bindir')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--steps', type=int, default=60000)
    p.add_argument('--torch-steps', type=int, default=8192)
    a = p.parse_args()
    rows = []
    for i in range(a.rounds):
        rows.append((ours(a.bindir, a.steps), theirs(a.torch_steps), theirs(a.torch_steps, played=False),
                     theirs(a.torch_steps, copies=1, horizon=2048, minibatch=64, epochs=10)))
        print('round {}: ours {:.0f} steps/s, PyTorch {:.0f}, without an environment {:.0f}, usual settings {:.0f}'.format(i + 1, *rows[-1]),
              file=sys.stderr)
    o, t, n, u = (statistics.median(r[k] for r in rows) for k in range(4))
    print('| steps/s, updates included | median | ss-train-policy is faster by |\n|---|---|---|')
    print(f'| ss-train-policy | {o:.0f} | |')
    print(f'| PyTorch, environment in Python | {t:.0f} | {o / t:.1f} |')
    print(f'| PyTorch, no environment | {n:.0f} | {o / n:.1f} |')
    print(f'| PyTorch, one environment, 2048 steps, minibatches of 64, 10 epochs | {u:.0f} | {o / u:.1f} |')


if __name__ == '__main__':
    main()
