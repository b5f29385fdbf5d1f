"""demo: material for a first run without a hub: graded tasks, a real small chat model, a tiny random one."""
