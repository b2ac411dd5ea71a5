"""The shipped default network: a small convolutional network for pictures and runs of vessels, with its weights."""
