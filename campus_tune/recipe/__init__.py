"""recipe: YAML → frozen settings, or everything that is wrong with it at once. Nothing is built or loaded here."""
