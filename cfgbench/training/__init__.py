"""Algorithm 1 and the training of classifiers: their steps, how they are divided and compiled, and what is saved."""
