"""Ways from a model to a step: Algorithm 4 as printed, and re-solving in a smaller radius."""
