from hypothesis import settings

# The first example pays for lazy imports, and two cores are shared: a deadline would only measure the neighbours.
settings.register_profile("market", deadline=None)
settings.load_profile("market")
