"""A gradient method of one's own: central differences. It is stated as solves, so it runs compiled where f does."""

import torch

from physid import ode


class Differences:
    """dL/dx = g (y(x + h) - y(x - h)) / 2 h for every number x of y0 and of the parameters."""

    name, h = "differences", 1e-5

    def solve(self, problem, backend):
        def pull(values, g, needs):  # g [T, N] -> cotangents of y0, t (none) and the parameters
            x = [part.detach() for part in (problem.y0, *problem.captured)]
            found = [torch.zeros_like(part) for part in x]
            for i, k in ((i, k) for i, part in enumerate(x) for k in range(part.numel())):
                for h in (self.h, -self.h):
                    y0, *params = moved = [part.clone() for part in x]
                    moved[i].view(-1)[k] += h
                    found[i].view(-1)[k] += (g * backend.solve(problem.at(y0, params)).values).sum() / (2 * h)
            return [found[0], None, *found[1:]]

        return ode.with_pullback(problem, lambda: backend.solve(problem), pull)


rate = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
solution = ode.solve(lambda t, y: -rate * y, torch.ones(2, dtype=torch.float64), [0.0, 1.0], gradient=Differences())
solution.y[-1].sum().backward()
print(solution.engine, (rate.grad + torch.exp(-rate)).abs().max() < 1e-6)  # native tensor(True)
