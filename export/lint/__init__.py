"""Reading a model file as its target would: what does not run there, runs slowly, or computes something else."""
