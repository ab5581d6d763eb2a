"""The two-layer ReLU denoising autoencoder: the net, its losses and its training."""
