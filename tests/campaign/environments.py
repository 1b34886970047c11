def cases(seed): return iter(())
