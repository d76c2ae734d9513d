"""An optimizer of one's own, asked for points and told their costs: CMA-ES. Source: Hansen (2016), arXiv:1604.00772."""

import numpy as np

import physid


class CMAES:
    def __init__(self, x, bounds, seed):
        self.mean, self.cov, self.path, self.size, self.rng = x, np.eye(len(x)), 0 * x, 0.3, np.random.default_rng(seed)
        self.w = np.arange(len(x) + 2, 0, -1) / np.arange(len(x) + 3).sum()

    def ask(self):
        self.root = np.linalg.cholesky(self.cov)
        return self.mean + self.size * self.rng.normal(size=(2 * len(self.w), len(self.mean))) @ self.root.T

    def tell(self, xs, costs):
        n, mu = len(self.mean), 1 / (self.w**2).sum()
        c, rate = (mu + 2) / (n + mu + 5), min(1, 2 * (mu - 2 + 1 / mu + n / 4) / ((n + 2) ** 2 + mu))
        y = (xs[np.argsort(costs)[: len(self.w)]] - self.mean) / self.size
        self.path = (1 - c) * self.path + np.sqrt(c * (2 - c) * mu) * np.linalg.solve(self.root, self.w @ y)
        self.cov = (1 - rate) * self.cov + rate * (self.w * y.T) @ y
        self.mean = self.mean + self.size * self.w @ y
        self.size *= np.exp(c / (1 + c) * (np.linalg.norm(self.path) / np.sqrt(n) / (1 - 0.25 / n) - 1))

    def done(self):
        return self.size * np.sqrt(self.cov.max()) < 1e-4


print(physid.fit(physid.models.Pendulum(), physid.load("pendulum", noise=0.05), optimizer=CMAES))
