"""Deep denoisers in Flax: a diffusion transformer and a U-Net, their training and checkpoints."""
