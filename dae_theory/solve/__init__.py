"""From a start to a stationary point of the exact objective."""
