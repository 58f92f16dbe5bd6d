"""Device profiles, one TOML file each: which files a device runs, and by which TensorRT or delegate."""
