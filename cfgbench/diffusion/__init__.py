"""The mathematics of guided diffusion: schedule, randomness, guidance, sampler. Tensors in, tensors out."""
