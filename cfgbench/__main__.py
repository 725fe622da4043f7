"""`python -m cfgbench`, and `torchrun -m cfgbench`."""

from cfgbench.cli import main

if __name__ == "__main__":
    main()
