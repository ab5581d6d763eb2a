"""Wall time, memory and final losses of a plain PyTorch loop, of our SGD and of our solver."""
