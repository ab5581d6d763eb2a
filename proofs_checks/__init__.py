"""Claims of the theory, each with its measured assumptions, its verdict and its mutants."""
