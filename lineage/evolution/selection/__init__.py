"""Fitness and selection: differentials, gradients, episodes, Price, response, permutations."""
