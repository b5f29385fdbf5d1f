"""The only files that know transformers, trl and accelerate."""
